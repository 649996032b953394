"""What all tests share: hypothesis profiles, the backends, and a watch on global state."""

from __future__ import annotations

import os

import array_api_strict
import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from minigrad import backends, graph, random

_COMMON = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("ci", derandomize=True, max_examples=40, database=None, **_COMMON)
settings.register_profile("long", max_examples=2000, **_COMMON)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

STRICT = backends.register(
    backends.Namespace("array_api_strict", array_api_strict, type(array_api_strict.asarray([0.0])))
)


def _gpu() -> bool:
    try:
        backends.get("cupy")
    except ImportError:
        return False
    return True


BACKENDS = ["numpy", "array_api_strict", *(["cupy"] if _gpu() else [])]


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    """Each backend of this machine by name. array_api_strict refuses what the standard does not promise."""
    return request.param


@pytest.fixture(autouse=True)
def no_leaks():
    """Every test starts from one seed, and leaves the settings of the process as it found them."""
    with random.seed(0):
        before = (graph.grad_enabled.get(), graph.watcher.get(), backends.current(), np.geterr())
        yield
        after = (graph.grad_enabled.get(), graph.watcher.get(), backends.current(), np.geterr())
    assert before == after


def pytest_terminal_summary(terminalreporter) -> None:
    if "cupy" not in BACKENDS:
        terminalreporter.write_line("no GPU with CuPy here: the tests ran on NumPy and array-api-strict")
