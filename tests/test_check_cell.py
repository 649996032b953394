"""check_cell: every kind of cell that keeps the contract passes, and every planted mistake is found and named."""

from __future__ import annotations

import math
import re
from typing import NamedTuple

import numpy as np
import pytest

import minigrad as mg
from minigrad import backends, graph, nn, random
from minigrad.check import CellReport, trial
from minigrad.errors import AnomalyError, ArgumentError, CellcheckError, ShapeError
from minigrad.scan.symbols import Symbol

from .nn.helpers import MGU, Learned

NAMES = ["initial state", "output", "nothing kept", "rows apart", "gradients", "gradients again", "dtypes", "backends",
         "compiled loop", "reversal", "padding", "weights used"]  # fmt: skip


# Cells that are right


class Embedded(nn.Cell):
    """Of tokens."""

    def __init__(self, vocabulary, hidden_size):
        super().__init__(vocabulary, hidden_size)
        self.embedding = nn.Embedding(vocabulary, 2)
        self.cell = nn.ElmanCell(2, hidden_size)

    def forward(self, x, h):
        return self.cell(self.embedding(x), h)


class Clocked(nn.Cell):
    """Counts the steps of each row, and adds to its state at every second of them."""

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.linear = nn.Linear(input_size + hidden_size, hidden_size)

    def initial_state(self, batch_size):
        return self.zeros(batch_size, self.hidden_size), mg.zeros((batch_size,), dtype="int64")

    def forward(self, x, state):
        h, n = state
        even = mg.expand_dims(mg.cos(math.pi * n.astype(x.dtype)) > 0, axis=1)
        h = mg.where(even, mg.tanh(self.linear(mg.concat([x, h], axis=-1))), 0.5 * h)
        return h, (h, n + 1)


class Nested(nn.Cell):
    """Its state is a dict with a named tuple and a list in it."""

    class Pair(NamedTuple):
        fast: mg.Tensor
        slow: mg.Tensor

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.weights = {"in": nn.Linear(input_size, hidden_size), "out": [nn.Linear(hidden_size, 3)]}

    @property
    def output_size(self):
        return 3

    def initial_state(self, batch_size):
        zeros = self.zeros(batch_size, self.hidden_size)
        return {"pair": Nested.Pair(zeros, zeros), "rest": [self.zeros(batch_size)]}

    def forward(self, x, state):
        fast, slow = state["pair"]
        fast = mg.tanh(self.weights["in"](x) + slow)
        slow = 0.9 * slow + 0.1 * fast
        energy = state["rest"][0] + (fast * slow).sum(axis=-1)
        return self.weights["out"][0](fast), {"pair": Nested.Pair(fast, slow), "rest": [energy]}


class Attending(nn.Cell):
    """Attends to a memory (B, S, H), whose keys are made once."""

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.keys = nn.Linear(hidden_size, hidden_size)
        self.step = nn.Linear(input_size + hidden_size, hidden_size)

    def prepare(self, xs, memory=None):
        return xs, (self.keys(memory), memory)

    def forward(self, x, h, keys, memory):
        scores = mg.softmax((keys @ mg.expand_dims(h, axis=2)).squeeze(2), axis=-1)
        read = (mg.expand_dims(scores, axis=1) @ memory).squeeze(1)
        h = mg.tanh(self.step(mg.concat([x, read], axis=-1)))
        return h, h


class Numbered(nn.Cell):
    """Has no weights, and a state without rows."""

    def initial_state(self, batch_size):
        return mg.zeros((batch_size, self.hidden_size)), mg.zeros((), dtype="int64")

    def forward(self, x, state):
        h, n = state
        h = 0.5 * h + x / (n + 1).astype(x.dtype)
        return h, (h, n + 1)


class Rectified(nn.Cell):
    """Has kinks everywhere, one of them at the state it begins with."""

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.weight = nn.Parameter(nn.init.orthogonal((hidden_size, hidden_size)))

    def forward(self, x, h):
        h = mg.relu(mg.relu(h) @ self.weight.mT + x)
        return h, mg.maximum(h, 0.25 * x)


class Positioned(nn.Cell):
    """Is told the place of each step, by prepare."""

    def forward(self, x, h):
        h = 0.5 * h + x
        return h, h

    def prepare(self, xs, memory=None):
        places = mg.arange(xs.shape[0], backend=xs.backend).astype(xs.dtype)
        return xs + mg.reshape(places, (-1, 1, 1)), ()


class Masked(Attending):
    """Attends to a memory and a mask of it that are NumPy's arrays."""

    def prepare(self, xs, memory=None):
        values, mask = (mg.tensor(m, backend=xs.backend) for m in memory)
        return super().prepare(xs, values.astype(xs.dtype) * mg.expand_dims(mask.astype(xs.dtype), axis=2))


TOKENS = np.array([[0, 1, 2], [2, 2, 1], [1, 0, 3], [3, 0, 2]])
MEMORY = mg.tensor(np.random.default_rng(0).normal(size=(3, 4, 2)))
RIGHT = {
    "elman": (lambda: nn.ElmanCell(2, 3), {}),
    "elman of relu": (lambda: nn.ElmanCell(2, 3, activation=mg.relu), {"order": 1}),
    "lstm": (lambda: nn.LSTMCell(1, 2), {}),
    "gru": (lambda: nn.GRUCell(2, 2), {"order": 1}),
    "gru of the notes": (lambda: nn.GRUCell(2, 2, reset_after=False), {"order": 1}),
    "zoneout": (lambda: nn.Zoneout(nn.LSTMCell(1, 2), (0.3, 0.5)), {"order": 1}),
    "variational dropout": (lambda: nn.VariationalDropout(nn.ElmanCell(2, 2), 0.3, 0.4), {"order": 1}),
    "residual": (lambda: nn.Residual(nn.GRUCell(2, 2)), {"order": 1}),
    "modifiers": (lambda: nn.Residual(nn.Zoneout(nn.VariationalDropout(nn.ElmanCell(2, 2), 0.2), 0.3)), {"order": 1}),
    "mgu": (lambda: MGU(2, 2), {}),
    "tokens": (lambda: Embedded(4, 2), {"xs": TOKENS}),
    "tensors of tokens": (lambda: Embedded(4, 2), {"xs": mg.tensor(TOKENS), "order": 1}),
    "clocked": (lambda: Clocked(2, 2), {"order": 1}),
    "learned": (lambda: Learned(1, 2), {}),
    "nested": (lambda: Nested(2, 2), {"order": 1}),
    "memory": (lambda: Attending(2, 2), {"memory": MEMORY, "order": 1}),
    "memory, time first": (
        lambda: nn.AttentionCell(nn.ElmanCell(2 + 2, 2), nn.AdditiveAttention(2, 2, 1), 2),
        {"memory": nn.Memory(mg.tensor(np.cos(np.arange(30)).reshape(5, 3, 2)), np.array([5, 0, 2])), "order": 1},
    ),
    "memory of arrays": (lambda: Masked(2, 2), {"memory": (np.ones((3, 2, 2)), np.eye(3)[:, :2] > 0), "order": 1}),
    "two rows": (lambda: nn.ElmanCell(1, 1), {"batch_size": 2, "steps": 3}),
    "floats given": (lambda: nn.ElmanCell(2, 1), {"xs": np.eye(6).reshape(6, 3, 2), "order": 1}),
    "no inputs": (lambda: nn.ElmanCell(0, 2), {"order": 1}),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", RIGHT)
def test_a_cell_that_keeps_the_contract_passes(name):
    make, options = RIGHT[name]
    report = mg.check_cell(make(), **options)
    assert report, str(report)
    expected = [n for n in NAMES if n != "gradients again" or options.get("order") != 1]
    assert [f.name for f in report.findings] == expected
    assert [(f.name, f.mark) for f in report.findings] == [(n, "ok") for n in expected], str(report)
    assert f"{len(expected)} checks passed" in str(report)


@pytest.mark.parametrize("seed", range(3))
def test_a_cell_full_of_kinks_passes(seed):
    mg.check_cell(Rectified(2, 2), seed=seed, steps=3)


@pytest.mark.slow
def test_a_kink_at_the_first_point_is_no_mistake():
    cell = planted(lambda self, x, h: (gated(self, mg.relu(x), h),) * 2)
    report = mg.check_cell(cell, xs=np.zeros((3, 3, 2)))
    for name in ("gradients", "gradients again"):
        assert report[name].text.endswith("; 1 of 2 points lie at a kink")


def test_a_cell_without_weights_and_a_state_without_rows_passes_with_a_note():
    report = mg.check_cell(Numbered(2, 2), order=1)
    assert report and [f.name for f in report.findings if f.mark != "ok"] == ["initial state"]
    assert report["initial state"].text.startswith("state[1] has no rows")
    assert report["weights used"].text == "the cell has none"


def test_a_cell_that_is_told_the_place_of_each_step_passes_with_a_note():
    report = mg.check_cell(Positioned(2, 2), order=1)
    assert report and report["reversal"].mark == "note" and "place of a step" in report["reversal"].text


def test_a_memory_that_goes_with_the_steps_is_cut_with_them_and_one_of_its_own_length_is_not():
    """A Jordan network under teacher forcing is told the place of each step, its first, which is a note."""
    targets = np.sin(np.arange(24)).reshape(4, 3, 2)
    report = mg.check_cell(nn.JordanCell(1, 2), memory=nn.Teacher(mg.tensor(targets)))
    assert [f.name for f in report.findings if f.mark != "ok"] == ["reversal"]
    with pytest.raises(CellcheckError, match=r"expected targets of shape \(5, 1, 2\)"):
        mg.check_cell(nn.JordanCell(1, 2), memory=nn.Teacher(mg.tensor(targets)), steps=5)


class Hummed(nn.Cell):
    """Hears a hum that prepare adds in training and out of it."""

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.cell = nn.ElmanCell(input_size, hidden_size)

    def prepare(self, xs, memory=None):
        return xs + 0.1 * mg.random.bernoulli(xs, 0.5).astype(xs.dtype), ()

    def forward(self, x, h):
        return self.cell(x, h)


HUMMED = {
    "own": (lambda: Hummed(2, 2), {"seed": 1}),
    "scheduled sampling": (lambda: nn.JordanCell(3, 4, 2), {"memory": nn.Teacher(np.zeros((4, 3), int), 0.5)}),
}


@pytest.mark.parametrize("name", HUMMED)
def test_a_cell_whose_prepare_draws_noise_out_of_training_passes_and_what_cannot_be_told_is_a_note(name):
    make, options = HUMMED[name]
    report = mg.check_cell(make(), order=1, **options)
    assert [f.name for f in report.findings if f.mark != "ok"] == ["reversal", "padding"]
    assert "prepare draws noise for all rows at once" in report["padding"].text
    assert "NaN behind the end of a row has no effect" in report["padding"].text
    assert "prepare draws noise for all steps at once" in report["reversal"].text


def test_noise_that_changes_nothing_hides_nothing():
    """A teacher who never speaks."""
    report = mg.check_cell(nn.JordanCell(3, 4, 2), memory=nn.Teacher(np.zeros((4, 3), int), 0.0), order=1)
    assert report["padding"].mark == "ok"


def test_noise_that_is_drawn_in_training_alone_lets_rows_be_compared_with_rows_alone():
    class Cell(Hummed):
        def prepare(self, xs, memory=None):
            return super().prepare(xs) if self.training else (xs, ())

    assert mg.check_cell(Cell(2, 2), order=1)["padding"].mark == "ok"


def test_other_numbers_on_a_backend_that_draws_its_own_are_a_note_and_else_a_failure(monkeypatch):
    other = backends.get("array_api_strict")
    draw = type(other).random
    monkeypatch.setattr(other, "random", lambda key, shape: draw(other, key + 1, shape))
    report = mg.check_cell(Hummed(2, 2), order=1, seed=1)
    assert report["backends"].mark == "note" and "may draw other numbers than NumPy" in report["backends"].text
    monkeypatch.undo()

    class Cell(Hummed):
        def forward(self, x, h):
            out, h = self.cell(x, h)
            return out * (1 + 1e-6 * (h.backend != "numpy")), h

    assert "give different numbers" in failed(Cell(2, 2), seed=1)["backends"]


LISTED = {
    "lengths": (
        lambda: nn.AttentionCell(nn.ElmanCell(2 + 2, 2), nn.AdditiveAttention(2, 2, 1), 2),
        lambda lengths: nn.Memory(mg.tensor(np.cos(np.arange(30)).reshape(5, 3, 2)), lengths),
        [5, 2, 1],
        "int64",
    ),
    "integers": (lambda: nn.JordanCell(1, 2, 3), nn.Teacher, [[0, 1, 2], [1, 1, 0], [2, 0, 1], [0, 0, 0]], "int64"),
    "floats": (lambda: nn.JordanCell(1, 2), nn.Teacher, np.cos(np.arange(24)).reshape(4, 3, 2).tolist(), "float32"),
    "booleans": (lambda: Masked(2, 2), lambda m: (np.ones((3, 2, 2)), m), [[True, False]] * 2 + [[False] * 2], bool),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", LISTED)
def test_lists_of_numbers_in_a_memory_count_as_arrays(name):
    make, memory, numbers, dtype = LISTED[name]
    texts = []
    for given in (numbers, np.array(numbers, dtype)):
        with mg.seed(0):
            texts.append(str(mg.check_cell(make(), memory=memory(given), order=1)))
    assert texts[0] == texts[1]


def test_lists_of_anything_else_in_a_memory_stay_lists():
    class Cell(Attending):
        def prepare(self, xs, memory=None):
            (first, second), words, sizes = memory["parts"], memory["words"], memory["sizes"]
            assert words == ["a", 1] and sizes == (2, 0.5) and memory["none"] == [] and type(memory["ragged"]) is list
            return super().prepare(xs, first + second * 0.5)

    parts = {"parts": [MEMORY, MEMORY], "words": ["a", 1], "sizes": (2, 0.5), "none": [], "ragged": [[1, 2], [3]]}
    assert mg.check_cell(Cell(2, 2), memory=parts, order=1)["padding"].mark == "ok"


def test_lists_of_whole_numbers_are_tokens_and_of_more_axes_features():
    assert mg.check_cell(Embedded(4, 2), xs=TOKENS.tolist(), order=1)
    assert mg.check_cell(nn.ElmanCell(2, 2), xs=np.arange(24).reshape(4, 3, 2).tolist(), order=1)
    assert mg.check_cell(nn.ElmanCell(2, 2), xs=np.cos(np.arange(24)).reshape(4, 3, 2).tolist(), order=1)


def test_other_backends_are_tried_and_where_there_are_none_the_line_says_so(monkeypatch):
    assert "array_api_strict" in mg.check_cell(nn.ElmanCell(1, 1))["backends"].text
    monkeypatch.setattr(backends, "_by_name", {"numpy": backends.numpy})
    if "cupy" not in backends._by_name:
        monkeypatch.setattr(backends, "CuPy", _nothing)
    assert "only NumPy is here" in mg.check_cell(nn.ElmanCell(1, 1))["backends"].text


def _nothing():
    raise mg.errors.BackendUnavailableError("no GPU")


@pytest.mark.slow
def test_large_cells_are_sampled_and_the_report_says_how_much():
    report = mg.check_cell(nn.ElmanCell(12, 24))
    found = re.match(r"(\d+) of 1,104 elements, (\d+) random directions, to ", report["gradients"].text)
    assert found and 200 < int(found[1]) <= 300 and int(found[2]) >= 4
    assert re.match(r"\d+ of [\d,]+ elements, \d+ random directions", report["gradients again"].text)


@pytest.mark.slow
def test_a_single_wrong_element_of_a_large_weight_does_not_escape():
    class Cell(nn.ElmanCell):
        def forward(self, x, h):
            u = self.weight_hh
            held = mg.index_update(u, (17, 5), u[17, 5].detach())
            h = mg.tanh(x @ self.weight_ih.mT + h @ held.mT + self.bias)
            return h, h

    lines = failed(Cell(12, 24))
    assert set(lines) == {"gradients"} and "by self.weight_hh" in lines["gradients"]


# What a check leaves behind


def test_the_cell_and_the_random_numbers_are_left_as_they_were():
    cell = nn.Zoneout(MGU(2, 2), 0.5)
    cell.cell.gate.train(False)
    cell.cell.candidate.bias.requires_grad = False
    outs, _ = nn.Recurrent(cell)(mg.ones((2, 1, 2)))
    outs.sum().backward()
    before = anatomy(cell)
    stream, python, legacy = random.get_state(), np.random.get_state()[1].copy(), backends.current()  # noqa: NPY002
    mg.check_cell(cell, order=1)
    assert anatomy(cell) == before
    assert random.get_state() == stream and backends.current() is legacy
    assert (np.random.get_state()[1] == python).all()  # noqa: NPY002


def anatomy(cell):
    """Everything there is to a cell, values as bytes."""
    tensors = [
        (name, id(t), id(t.data), t.numpy().tobytes(), id(t.node), None if t.grad is None else t.grad.numpy().tobytes())
        for name, t in cell.named_tensors().items()
    ]
    return tensors, [(id(m), m.training, {k: id(v) for k, v in vars(m).items()}) for m in cell.modules()]


def test_the_settings_of_the_caller_do_not_matter():
    with mg.no_grad(), mg.detect_anomaly():
        assert mg.check_cell(nn.ElmanCell(1, 1), order=1)
        assert not graph.grad_enabled.get()
    cell = nn.ElmanCell(1, 1).to("array_api_strict")
    with mg.use("array_api_strict"):
        assert mg.check_cell(cell, order=1)
        assert backends.current().name == cell.bias.backend == "array_api_strict"


def test_a_seed_gives_the_same_report_and_another_seed_another():
    cell = nn.ElmanCell(1, 1)
    texts = [str(mg.check_cell(cell, order=1, seed=seed)) for seed in (0, 0, 1)]
    assert texts[0] == texts[1] != texts[2]


def test_float64_cells_and_frozen_weights_are_checked_as_others():
    cell = nn.ElmanCell(2, 2)
    for p in cell.parameters():
        p.data = p.data.astype("float64")
        p.requires_grad = False
    report = mg.check_cell(cell, order=1)
    assert report["weights used"].text == "each of 3 has a gradient"
    assert cell.bias.dtype == mg.float64 and not cell.bias.requires_grad


# Mistakes


def failed(cell, **options):
    """What is printed of the checks that failed, each as one line."""
    with pytest.raises(CellcheckError) as caught:
        mg.check_cell(cell, **{"order": 1, "steps": 3, **options})
    assert isinstance(caught.value, AssertionError) and isinstance(caught.value, mg.MinigradError)
    lines: dict[str, str] = {}
    name = ""
    for line in str(caught.value).splitlines()[1:]:
        assert len(line) <= 120 or "/" in line
        if not line.startswith(" " * 10):
            mark, name, text = re.split(r"\s{2,}", line.strip(), maxsplit=2)
            if mark == "FAIL":
                lines[name] = text
        elif name in lines:
            lines[name] += " " + line.strip()
    return lines


def planted(forward, **members):
    """A cell of two linear layers with this step, and these members."""

    def init(self, input_size=2, hidden_size=3):
        nn.Cell.__init__(self, input_size, hidden_size)
        self.gate = nn.Linear(input_size + hidden_size, hidden_size)
        self.value = nn.Linear(input_size, hidden_size)
        self.count, self.last, self.seen = 0, None, []

    kind = type("Planted", (nn.Cell,), {"__init__": init, "forward": forward, **members})
    return kind()


def gated(self, x, h):
    """The right step."""
    z = mg.sigmoid(self.gate(mg.concat([x, h], axis=-1)))
    return z * h + (1 - z) * mg.tanh(self.value(x))


def test_the_planted_cell_is_right_without_its_mistake():
    assert mg.check_cell(planted(lambda self, x, h: (gated(self, x, h),) * 2))


@pytest.mark.parametrize(
    "mean", [lambda h: h.mean(axis=0, keepdims=True), lambda h: mg.flip(h, axis=0), lambda h: h[:1]]
)
def test_rows_that_are_mixed_are_found(mean):
    lines = failed(planted(lambda self, x, h: (gated(self, x, h - mean(h)),) * 2))
    assert set(lines) == {"rows apart"}
    assert re.match(
        r"`(out|state)` of row \d at step \d changes with the inputs and state of row \d", lines["rows apart"]
    )
    assert "over the batch" in lines["rows apart"]


def test_rows_that_are_mixed_in_the_gradient_alone_are_found():
    @mg.primitive
    def same(xp, x, /):
        """x."""
        return x * 1

    same.vjp(lambda g, xp: g + xp.sum(g, axis=0, keepdims=True) * 1e-3)
    lines = failed(planted(lambda self, x, h: (gated(self, same(x), h),) * 2))
    assert "the results of row 0 have a gradient by xs of another row" in lines["rows apart"]


def test_rows_that_are_mixed_by_prepare_are_found():
    cell = planted(lambda self, x, h: (gated(self, x, h),) * 2,
                   prepare=lambda self, xs, memory=None: (xs - xs.mean(axis=1, keepdims=True), ()))  # fmt: skip
    assert "at step 0 changes" in failed(cell)["rows apart"]


def test_a_state_kept_on_the_cell_is_found():
    def forward(self, x, h):
        h = gated(self, x, h if self.last is None else self.last)
        self.last = h.detach()
        return h, h

    lines = failed(planted(forward))
    assert set(lines) == {"nothing kept"}
    assert "`self.last` is another Tensor than before" in lines["nothing kept"]
    assert "belongs in the state" in lines["nothing kept"]


def test_a_cell_that_keeps_a_computed_tensor_already_is_found():
    def forward(self, x, h):
        self.last = gated(self, x, h)
        return self.last, self.last

    cell = planted(forward)
    cell(mg.ones((1, 2)), cell.initial_state(1))
    assert "`last` is a tensor that was computed" in failed(cell)["nothing kept"]


def count(self):
    self.count += 1


def grow(self):
    self.seen.append(1)


def replace(self):
    self.gate.bias = nn.Parameter(self.gate.bias * 0.5)


def rebind(self):
    self.gate.bias.data = self.gate.bias.data * 0.5


def overwrite(self):
    if isinstance(self.gate.bias.data, np.ndarray):
        self.gate.bias.data *= 0.5


def of_class(self):
    type(self).calls = type(self).calls + 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (count, "`self.count` was 0, and is 3"),
        (grow, "`self.seen.0` is new, a int"),
        (replace, "`self.gate.bias` is another Parameter"),
        (rebind, "`self.gate.bias` is another ndarray"),
        (overwrite, "the values of `self.gate.bias` are others"),
        (of_class, "`Planted.calls` was"),
    ],
)
def test_whatever_a_step_changes_of_the_cell_is_found(change, words):
    def forward(self, x, h):
        change(self)
        h = gated(self, x, h)
        return h, h

    lines = failed(planted(forward, calls=0))
    assert set(lines) == {"nothing kept"} and words in lines["nothing kept"]


def test_what_a_closure_keeps_from_call_to_call_is_found():
    calls = []

    def forward(self, x, h):
        calls.append(1)
        h = gated(self, x, h) * (1 + 1e-3 * len(calls))
        return h, h

    assert "other numbers the second time: out[0, 0, 0]" in failed(planted(forward))["nothing kept"]


@pytest.mark.parametrize("noise", [lambda h: mg.dropout(h, 0.5), lambda h: h + mg.random.normal(h.shape)])
@pytest.mark.parametrize("only_in_training", [True, False])
def test_noise_drawn_in_a_step_is_found(noise, only_in_training):
    def forward(self, x, h):
        h = gated(self, x, h)
        if self.training or not only_in_training:
            h = noise(h)  # here
        return h, h

    lines = failed(planted(forward))
    assert set(lines) == {"nothing kept"} and "the step draws random numbers" in lines["nothing kept"]
    assert ("in training" in lines["nothing kept"]) == only_in_training
    assert "test_check_cell.py" in lines["nothing kept"] and "prepare" in lines["nothing kept"]


def test_noise_of_numpy_is_found():
    rng = np.random.default_rng(0)

    def forward(self, x, h):
        h = gated(self, x, h) + rng.normal()
        return h, h

    assert "other numbers the second time" in failed(planted(forward))["nothing kept"]


@pytest.mark.parametrize(
    "constant",
    [np.array([0.5]), mg.tensor(np.array([0.5])), mg.tensor(0.5, dtype="float64")],
    ids=["array", "tensor", "0-d tensor"],
)
def test_a_constant_of_float64_is_found(constant):
    def forward(self, x, h):
        h = gated(self, x, h) * constant  # the line
        return h, h

    lines = failed(planted(forward))
    assert "with weights of float32, `out` is float64" in lines["dtypes"]
    assert re.search(r"The first float64 is made at .*test_check_cell.py:\d+: .*# the line", lines["dtypes"])
    assert "gradients" not in lines and "initial state" not in lines


def test_a_constant_of_float64_that_belongs_to_the_cell_is_found():
    cell = planted(lambda self, x, h: (gated(self, x, h) * self.scale,) * 2, scale=None)
    cell.scale = mg.tensor(np.full(3, 0.5))
    assert set(failed(cell)) == {"dtypes"}


def test_a_dtype_that_does_not_follow_the_weights_is_found():
    def start(self, batch_size):
        return mg.zeros((batch_size, self.hidden_size), dtype="float32")

    cell = planted(lambda self, x, h: (gated(self, x, h),) * 2, initial_state=start)
    assert "with weights of float64, state of initial_state is float32" in failed(cell)["dtypes"]
    cell = planted(lambda self, x, h: (gated(self, x, h).astype("float32"), h))
    lines = failed(cell)["dtypes"]
    assert "with weights of float64, `out` is float32" in lines and "The first float32 is made at" in lines


def test_weights_of_two_dtypes_are_found():
    cell = planted(lambda self, x, h: (gated(self, x, h),) * 2)
    cell.gate.bias.data = cell.gate.bias.data.astype("float64")
    assert "several dtypes: float32, float64" in failed(cell)["dtypes"]


def test_a_detached_gate_is_found():
    def forward(self, x, h):
        z = mg.sigmoid(self.gate(mg.concat([x, h], axis=-1))).detach()
        h = z * h + (1 - z) * mg.tanh(self.value(x))
        return h, h

    with pytest.raises(CellcheckError) as caught:
        mg.check_cell(planted(forward))
    text = " ".join(str(caught.value).split())
    assert re.search(r"FAIL gradients the gradient by self\.gate\.\w+\[[\d, ]+\] is 0 by the backward pass, -?\d", text)
    assert "cut from the graph" in text and ".detach()" in text
    assert "-- gradients again not looked at before `gradients` holds" in text
    assert text.count("FAIL") == 1


def test_a_gradient_that_is_wrong_in_training_alone_is_found():
    def forward(self, x, h):
        h = gated(self, x, h.detach() if self.training else h)
        return h, h

    assert "(in training)" in failed(planted(forward))["gradients"]


def cube(rule):
    @mg.primitive
    def cubed(xp, x, /):
        """x**3."""
        return x * x * x

    cubed.vjp(rule)
    return planted(lambda self, x, h: (gated(self, x, cubed(h)),) * 2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (lambda g, x: g * 3 * x, "by self.|by state|by xs"),
        (lambda g, x: -3 * g * x * x, "mg.gradcheck tries an operation by itself"),
        (None, "cut from the graph"),
    ],
)
def test_a_wrong_backward_rule_is_found(rule, words):
    lines = failed(cube(rule))
    assert "gradients" in lines and "gradients again" not in lines
    assert re.search(words, lines["gradients"])


def cut(x):
    """x without its graph, where it is a tensor."""
    return x.detach() if isinstance(x, mg.Tensor) else x


def raw(x):
    """The array of x."""
    return x.data if isinstance(x, mg.Tensor) else x


@pytest.mark.slow
@pytest.mark.parametrize("rule", [lambda g, x: g * 3 * cut(x) * x, lambda g, x: g * (3 * raw(x) ** 2)])
def test_a_rule_that_is_right_once_and_wrong_twice_is_found(rule):
    lines = failed(cube(rule), order=2)
    assert "gradients" not in lines and "the gradient of the gradient by" in lines["gradients again"]
    assert "written with its arguments, operators and xp" in lines["gradients again"]
    assert mg.check_cell(cube(rule), order=1)


def test_a_rule_that_takes_only_arrays_is_found():
    lines = failed(cube(lambda g, x: np.multiply(g, 3 * x * x)), order=2)
    assert "gradients again" in lines and "TypeError was raised" in lines["gradients again"]
    assert "operators and xp" in lines["gradients again"]


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (lambda self, n: self.zeros(n, 5), r"state has shape \(1, 5\)|a step with 1 row raised ShapeError"),
        (lambda self, n: self.zeros(3, self.hidden_size), r"state of initial_state\(1\) has shape \(3, 3\)"),
        (lambda self, n: self.zeros(self.hidden_size, n), r"state of initial_state\(1\) has shape \(3, 1\)"),
        (lambda self, n: self.zeros(n, 1), r"a step with 1 row raised|state has shape \(1, 1\)"),
        (lambda self, n: (self.zeros(n, 3), self.zeros(n, 3)), "raised|structure"),
        (lambda self, n: 0.0, "state of initial_state.1. is 0.0, a float and no tensor"),
        (lambda self, n: np.zeros((n, 3)), "a ndarray and no tensor"),
        (lambda self, n: mg.random.normal((n, 3)), "rows unlike that of initial_state"),
        (lambda self, n: self.zeros(n, 3) + mg.arange(n).astype("float32").reshape(n, 1), "has rows unlike"),
        (lambda self, n: self.zeros(n, 3) + n, "has rows unlike"),
        (lambda self, n: self.zeros(n, self.width), r"initial_state\(1\) raised AttributeError .*'width'"),
    ],
)
def test_a_wrong_initial_state_is_found(start, words):
    lines = failed(planted(lambda self, x, h: (gated(self, x, h),) * 2, initial_state=start))
    assert set(lines) == {"initial state"} and re.search(words, lines["initial state"])


@pytest.mark.parametrize(
    ("start", "after", "words"),
    [
        (lambda n: 0, lambda n: n + 1, r"state\[1\] of initial_state\(1\) is 0, a int and no tensor"),
        (lambda n: mg.zeros((n,)), lambda n: 0.5, r"state\[1\] of a step's state is 0.5, a float and no tensor"),
        (lambda n: mg.zeros((n,), dtype="int64"), lambda n: n + 0.5, r"state\[1\] is int64 in .* float\d+ after"),
        (lambda n: mg.zeros((n,)), lambda n: n[None], r"state\[1\] has shape \(1,\) in .* \(1, 1\) after"),
        (lambda n: mg.zeros((n,)), lambda n: (n, n), "must have the structure of that before it"),
    ],
)  # fmt: skip
def test_a_part_of_the_state_that_does_not_stay_what_it_is_is_found(start, after, words):
    def forward(self, x, state):
        h = gated(self, x, state[0])
        return h, (h, after(state[1]))

    cell = planted(forward, initial_state=lambda self, n: (self.zeros(n, self.hidden_size), start(n)))
    lines = failed(cell)
    assert set(lines) == {"initial state"} and re.search(words, lines["initial state"])


@pytest.mark.parametrize(
    "start",
    [
        lambda self, n: (self.zeros(n, 3), self.zeros(n, 3)),
        lambda self, n: {"h": self.zeros(n, 3), "c": self.zeros(n, 3)},
        lambda self, n: self.zeros(n, 5),
    ],
)
def test_a_state_before_the_output_is_said_to_be_so(start):
    def forward(self, x, state):
        h = gated(self, x, mg.zeros((x.shape[0], 3)).astype(x.dtype))
        return mg.tree.map(lambda part: part * 0.5, state), h

    lines = failed(planted(forward, initial_state=start))
    assert set(lines) == {"initial state"} and "returns (out, state), in this order" in lines["initial state"]


def test_a_state_that_is_wrong_in_another_way_is_not_said_to_be_the_output():
    for wrong in (lambda h: (h, h), lambda h: mg.concat([h, h], axis=-1)):
        line = failed(planted(lambda self, x, h, wrong=wrong: (gated(self, x, h), wrong(h))))["initial state"]
        assert "in this order" not in line


@pytest.mark.parametrize(
    ("out", "words"),
    [
        (lambda x, h: mg.concat([h, x], axis=-1), r"shape \(1, 5\), and output_size says \(1, 3\)"),
        (lambda x, h: h.sum(axis=0), r"the output of 1 rows has shape \(3,\)"),
        (lambda x, h: (h, h), "the output is a tuple and no tensor"),
        (lambda x, h: mg.log(h * 0.0 - 1.0), r"out\[0, 0, 0\] \(step 0, row 0\) is nan.*detect_anomaly"),
    ],
)
def test_an_output_that_is_not_one_is_found(out, words):
    def forward(self, x, h):
        h = gated(self, x, h)
        return out(x, h), h

    lines = failed(planted(forward))
    assert set(lines) == {"output"} and re.search(words, lines["output"])


@pytest.mark.parametrize(
    "size",
    [
        lambda h: h * 2.0 if h.sum() > 100.0 else h,
        lambda h: h * (2.0 if math.isnan(h[0, 0].item()) else 1.0),
        lambda h: h * (2.0 if np.isnan(h.numpy()).any() else 1.0),
    ],
)
def test_a_step_that_asks_for_values_is_found(size):
    lines = failed(planted(lambda self, x, h: (size(gated(self, x, h)),) * 2))
    assert set(lines) == {"compiled loop"}
    assert "the step cannot be compiled" in lines["compiled loop"] and "asks for a value" in lines["compiled loop"]


def over_time(self, xs, memory=None):
    return xs - xs.mean(axis=0, keepdims=True), ()


def from_the_end(self, xs, memory=None):
    return mg.flip(xs, axis=0), ()


class Leaking(Hummed):
    """Its prepare draws noise, and lets the padding or other rows in besides."""

    def __init__(self, leak):
        super().__init__(2, 2)
        self.leak = leak

    def prepare(self, xs, memory=None):
        return self.leak(super().prepare(xs)[0]), ()


def test_noise_in_prepare_hides_no_rows_that_are_mixed():
    lines = failed(Leaking(lambda xs: xs - xs.mean(axis=1, keepdims=True)))
    assert set(lines) == {"rows apart"} and "over the batch" in lines["rows apart"]


def test_noise_in_prepare_hides_no_padding_that_is_let_in(monkeypatch):
    cell = Leaking(lambda xs: xs - xs.mean(axis=0, keepdims=True))
    assert mg.check_cell(cell, order=1)["padding"].mark == "note"
    monkeypatch.setattr("minigrad.nn.recurrent.within", lambda xs, valid: xs)
    assert "what stands in the padding has an effect" in failed(cell)["padding"]


def test_noise_in_a_step_is_found_beside_noise_in_prepare():
    class Cell(Hummed):
        def forward(self, x, h):
            return self.cell(mg.dropout(x, 0.5), h)

    lines = failed(Cell(2, 2))
    assert set(lines) == {"nothing kept"} and "the step draws random numbers" in lines["nothing kept"]


@pytest.mark.parametrize("prepare", [over_time, from_the_end])
def test_padding_that_is_looked_at_is_found(prepare):
    lines = failed(planted(lambda self, x, h: (gated(self, x, h),) * 2, prepare=prepare))
    assert set(lines) == {"padding"}
    assert re.search(r"`\w+` of row 2, which has 2 of 3 steps, is not what it is alone", lines["padding"])
    assert "prepare" in lines["padding"]


def test_a_constant_that_belongs_to_numpy_is_found_where_there_is_another_backend():
    lines = failed(planted(lambda self, x, h: (gated(self, x, h) * np.float32([0.5]),) * 2))
    assert set(lines) == {"backends"} and "BackendMismatchError" in lines["backends"]
    assert "on array_api_strict" in lines["backends"]


def test_what_differs_from_backend_to_backend_is_found():
    lines = failed(planted(lambda self, x, h: (gated(self, x, h) * (1 + 1e-6 * (h.backend != "numpy")),) * 2))
    assert set(lines) == {"backends"}
    assert re.match(r"array_api_strict and NumPy give different numbers: out\[0, 0, 0\] \(step 0", lines["backends"])


def test_a_step_that_is_another_one_when_it_is_recorded_is_found():
    lines = failed(planted(lambda self, x, h: (gated(self, x, h) * (1 + 1e-6 * (type(h.data) is Symbol)),) * 2))
    assert set(lines) == {"compiled loop"}
    assert re.match(r"it differs from the eager loop: out\[0, 0, 0\] \(step 0, row 0\) is", lines["compiled loop"])


def test_a_reversed_loop_that_is_not_the_flipped_one_is_found(monkeypatch):
    monkeypatch.setattr(trial, "scan", lambda *args, reverse, **options: mg.scan(*args, **options))
    lines = failed(planted(lambda self, x, h: (gated(self, x, h),) * 2))
    assert set(lines) == {"reversal"} and "is not that over the flipped sequence: out[" in lines["reversal"]


def test_gradients_that_leak_from_padding_are_found():
    @mg.primitive
    def same(xp, x, /):
        """x."""
        return x * 1

    same.vjp(lambda g, xp: g + xp.sum(g, axis=0, keepdims=True) * 1e-3)
    cell = planted(lambda self, x, h: (gated(self, x, h),) * 2, prepare=lambda self, xs, memory=None: (same(xs), ()))
    lines = failed(cell)
    assert set(lines) == {"gradients", "padding"}
    assert "with lengths, the gradient by xs is not the sum of those of the rows alone" in lines["padding"]


def test_a_weight_that_has_no_effect_is_a_note_and_no_failure():
    cell = planted(lambda self, x, h: (gated(self, x, h),) * 2, spare=None)
    cell.spare = nn.Parameter(mg.zeros((2, 2)))
    cell.fixed = mg.zeros((2, 2))
    report = mg.check_cell(cell, order=1)
    assert report and report["weights used"].mark == "note"
    assert report["weights used"].text.startswith("self.spare: the gradient is exactly 0 everywhere")
    assert "note  weights used" in str(report)


def test_a_tensor_that_asks_for_a_gradient_and_is_no_parameter_is_a_note():
    class Cell(nn.Cell):
        def __init__(self):
            super().__init__(2, 3)
            self.u = mg.tensor(np.ones((3, 2), "float32"), requires_grad=True)
            self.scales = [mg.tensor([0.5], requires_grad=True), mg.tensor([0.5])]

        def forward(self, x, h):
            h = mg.tanh(x @ self.u.mT * self.scales[0] + h * self.scales[1])
            return h, h

    cell = Cell()
    report = mg.check_cell(cell, order=1)
    assert report and [f.name for f in report.findings if f.mark != "ok"] == ["weights used"]
    assert report["weights used"].text.startswith("self.u, self.scales.0: requires_grad alone makes no weight")
    assert "nn.Parameter" in report["weights used"].text
    cell.spare = nn.Parameter(mg.zeros((2,)))
    text = mg.check_cell(cell, order=1)["weights used"].text
    assert text.startswith("self.spare: the gradient is exactly 0") and "; self.u, self.scales.0: requires_grad" in text


def test_weights_that_begin_as_zeros_hide_nothing():
    cell = planted(lambda self, x, h: (gated(self, x, h) + self.scale * mg.tanh(h).detach(),) * 2, scale=None)
    cell.scale = nn.Parameter(mg.zeros((3,)))
    assert set(failed(cell)) == {"gradients"}


def test_names_of_weights_and_of_inputs_do_not_collide():
    cell = planted(lambda self, x, h: (gated(self, x, h) + self.state * self.xs.detach(),) * 2)
    cell.state, cell.xs = nn.Parameter(mg.ones((3,))), nn.Parameter(mg.ones((1,)))
    assert "by self.xs[0] is 0 by the backward pass" in failed(cell)["gradients"]


# What is no cell


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ((nn.LSTMCell,), ArgumentError, r"expected a built cell, a nn.Cell, got the class LSTMCell; build one"),
        ((nn.Recurrent(nn.LSTMCell, 1, 1),), ArgumentError, "got a Recurrent; its cells are net.cells"),
        ((mg.tanh,), ArgumentError, "got a function|got a"),
        ((None,), ArgumentError, "got a NoneType"),
    ],
)
def test_what_is_no_built_cell_is_refused(arguments, error, words):
    with pytest.raises(error, match=words):
        mg.check_cell(*arguments)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"order": 3}, ArgumentError, "order is 1 or 2, not 3"),
        ({"steps": 2}, ArgumentError, "steps must be an integer from 3, got 2"),
        ({"batch_size": 1.0}, ArgumentError, "batch_size must be an integer from 2, got 1.0"),
        ({"xs": np.zeros((2, 3, 1))}, ShapeError, "at least 3 steps and 2 rows, got the shape"),
        ({"xs": [1, 2]}, ShapeError, r"got the shape \(2,\)"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(options, error, words):
    with pytest.raises(error, match=words):
        mg.check_cell(nn.ElmanCell(1, 1), **options)


def test_a_cell_that_has_not_initialised_its_base_is_refused():
    class Cell(nn.Cell):
        def __init__(self, input_size, hidden_size):
            self.linear = nn.Linear(input_size, hidden_size)

    words = r"Cell has no input_size; its __init__ is to call super\(\).__init__\(input_size, hidden_size\)"
    with pytest.raises(ArgumentError, match=words):
        mg.check_cell(Cell(2, 2))
    cell = Cell(2, 2)
    cell.input_size = 2
    with pytest.raises(ArgumentError, match="has no hidden_size"):
        mg.check_cell(cell)


def test_a_cell_that_cannot_be_copied_is_refused():
    cell = planted(lambda self, x, h: (gated(self, x, h),) * 2)
    cell.generator = (i for i in range(3))
    with pytest.raises(ArgumentError, match=r"cannot be copied: .*generator"):
        mg.check_cell(cell)


def test_inputs_that_the_cell_does_not_take_are_said_to_be_so():
    lines = failed(Embedded(4, 2))
    assert set(lines) == {"initial state"} and "check_cell(cell, xs=...)" in lines["initial state"]
    lines = failed(Attending(2, 2))
    assert "memory=..." in lines["initial state"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("steps", "check", "words"),
    [
        (3, "initial state", "two first axes are both of 3, as many as xs has rows, .* let its steps differ"),
        (4, "padding", "begins with the steps and rows of xs, .* let its steps differ"),
        (5, "", ""),
    ],
)
def test_a_memory_whose_axes_may_be_something_else_is_said_to_be_so_where_it_fails(steps, check, words):
    cell = nn.AttentionCell(nn.ElmanCell(2 + 2, 2), nn.AdditiveAttention(2, 2, 1), 2)
    memory = nn.Memory(mg.tensor(np.cos(np.arange(steps * 6)).reshape(steps, 3, 2)))
    if not check:
        assert mg.check_cell(cell, memory=memory, order=1)
    else:
        lines = failed(cell, memory=memory, steps=4)
        assert set(lines) == {check} and re.search(words, lines[check])


def test_a_memory_whose_rows_may_be_its_steps_is_named_where_rows_are_mixed_too():
    class Cell(Attending):
        def prepare(self, xs, memory=None):
            return super().prepare(xs, mg.permute_dims(memory, (1, 0, 2)))

    square = mg.tensor(np.random.default_rng(0).normal(size=(3, 3, 2)))
    lines = failed(Cell(2, 2), memory=square)
    assert "let its steps differ" in next(iter(lines.values()))


# The report


def test_the_report_is_found_by_name_and_prints_in_a_terminal():
    report = mg.check_cell(nn.ElmanCell(1, 1), order=1)
    assert isinstance(report, CellReport) and report["dtypes"].mark == "ok"
    text = str(report)
    assert text.isascii() and max(map(len, text.splitlines())) <= 120
    assert len({line.index("  ", 8) for line in text.splitlines()[1:] if "weights used" in line}) == 1


def test_an_anomaly_in_a_cell_of_minigrad_is_at_the_line_of_the_user():
    cell = nn.ElmanCell(1, 1, activation=mg.sqrt)
    cell.bias.data = np.array([-10.0], "float32")
    with np.errstate(all="ignore"), mg.detect_anomaly(), pytest.raises(AnomalyError, match=r"sqrt made.*# this line"):
        cell(mg.zeros((1, 1)), mg.zeros((1, 1)))  # this line


@mg.primitive
def halved(xp, x, /):
    return x / 2


halved.vjp(lambda g, xp: g / 2 * xp.log(0 * g - 1))  # NaN


def test_a_gradient_that_is_nan_is_called_so():
    class Spoiled(MGU):
        def forward(self, x, h):
            out, h = super().forward(x, h)
            return halved(out), h

    with (
        np.errstate(invalid="ignore"),
        pytest.raises(CellcheckError, match=r"the gradient by .* is nan, with"),
    ):
        mg.check_cell(Spoiled(3, 4))


def test_other_inputs_are_recommended_only_where_they_could_help():
    class Misspelled(MGU):
        def forward(self, x, h):
            return hidden, h  # noqa: F821

    class OfTokens(nn.Cell):
        def forward(self, x, h):
            return mg.one_hot(x, 4) + h, h

    with pytest.raises(CellcheckError, match="NameError") as caught:
        mg.check_cell(Misspelled(3, 4))
    assert "xs=..." not in str(caught.value)
    with pytest.raises(CellcheckError, match=r"needs check_cell\(cell, xs=\.\.\.\)"):
        mg.check_cell(OfTokens(3, 4))
