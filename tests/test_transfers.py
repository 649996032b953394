"""A training step moves its batch to the device, and nothing else in either direction.

array-api-strict stands in for a GPU library where there is none; an index into its arrays is worked out on the host,
which CuPy does on the device, and is not counted.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import backends, optim
from models.char_lm import CharModel, command
from models.command_line import CELLS
from tests.conftest import BACKENDS

BATCH = np.array([[0, 1], [2, 3], [1, 1]]), np.array([[1, 2], [3, 4], [0, 0]])


@pytest.fixture(params=[name for name in BACKENDS if name != "numpy"])
def moved(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The shapes of all arrays that are moved from now on: to the device, and back."""
    device = backends.get(request.param)
    to_device, to_host = device.from_numpy, device.to_numpy
    there: list[tuple[int, ...]] = []
    back: list[tuple[int, ...]] = []

    def positions(shape: tuple[int, ...], key: tuple) -> np.ndarray:
        on_host = tuple(to_host(k) if isinstance(k, device.array_type) else k for k in key)
        return np.arange(np.prod(shape, dtype=int)).reshape(shape)[on_host]

    monkeypatch.setattr(device, "from_numpy", lambda array: there.append(array.shape) or to_device(array))
    monkeypatch.setattr(device, "to_numpy", lambda array: back.append(array.shape) or to_host(array))
    monkeypatch.setattr(device, "_positions", positions)
    with mg.use(request.param):
        yield there, back


@pytest.mark.parametrize("optimizer", [optim.SGD, optim.Adam, optim.RMSprop, optim.AdamW])
@pytest.mark.parametrize("cell", CELLS)
def test_a_training_step_moves_its_batch_and_one_number_where_it_is_asked_for(cell, optimizer, moved):
    there, back = moved
    model = CharModel(5, command.cell(cell), 6, 4)
    rule = optimizer(model.parameters(), optim.cosine(0.01, 10))

    def step() -> mg.Tensor:
        loss, _ = model.loss(BATCH, None)
        rule.zero_grad()
        loss.backward()
        optim.clip_by_norm(model.parameters(), 1.0)
        rule.step()
        return loss

    step()  # which makes the state of the optimiser
    there.clear(), back.clear()
    loss = step()
    assert there == [part.shape for part in BATCH] and back == []
    loss.item()
    assert back == [()]
