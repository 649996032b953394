"""A training that was ended goes on bit for bit as if it had not been: at any step, of any kind of data and state."""

from __future__ import annotations

import json
import signal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import nn, optim, train
from minigrad.data import Batches, ContinuousBatches, Drawn
from minigrad.errors import CheckpointError, FileFormatError


class Reader(nn.Module):
    """A small recurrent network with dropout, whose loss predicts each next token; the state is carried over."""

    def __init__(self):
        self.embedding, self.dropout = nn.Embedding(5, 4), nn.Dropout(0.3)
        self.recurrent, self.output = nn.Recurrent(nn.LSTMCell, 4, 6), nn.Linear(6, 5)

    def loss(self, batch, state):
        inputs, targets = (mg.tensor(part) for part in batch)
        hs, state = self.recurrent(self.dropout(self.embedding(inputs)), state)
        return mg.cross_entropy(self.output(hs), targets), state


TOKENS = np.random.default_rng(0).integers(0, 5, 200)


def shuffled():
    """Examples in an order that is drawn anew in every pass."""
    pairs = [(TOKENS[i : i + 6], TOKENS[i + 1 : i + 7]) for i in range(0, 60, 6)]
    return Batches(pairs, 4, collate=lambda rows: tuple(np.stack(part, axis=1) for part in zip(*rows)), shuffle=True)


def drawn():
    """Data that are drawn while they are iterated over, between the draws of dropout."""

    def draw():
        tokens = mg.random.generator().integers(0, 5, (7, 4))
        return tokens[:-1], tokens[1:]

    return Drawn(draw, 4)


def windows():
    """One long sequence, whose state is carried from batch to batch."""
    return ContinuousBatches(TOKENS, batch_size=4, length=12)


KINDS = {"shuffled": (shuffled, False), "drawn": (drawn, False), "windows": (windows, True)}


def fit(folder, kind, *, stop_at=None, resume=False, epochs=3, patience=None, **options):
    """Train from a seed, or go on under another; Ctrl-C comes in the step or validation number `stop_at`."""
    make, carried = KINDS[kind]
    calls = []
    with mg.seed(99 if resume else 7):
        model = Reader()
        if resume:
            mg.random.normal((13,))  # the stream stands elsewhere

        def loss(batch, state):
            calls.append(batch)
            if len(calls) == stop_at:
                signal.raise_signal(signal.SIGINT)
            value, state = model.loss(batch, state)
            return value, state if carried else None

        batches, valid = make(), ContinuousBatches(TOKENS, batch_size=2, length=20)
        optimizer = optim.Adam(model.parameters(), optim.warmup(3, optim.cosine(0.05, 3 * len(batches))))
        history = train.fit(model, optimizer, loss, batches, valid, epochs=epochs, clip=0.5, folder=folder,
                            resume=resume, patience=patience, about={"kind": kind}, quiet=True, **options)  # fmt: skip
        after = mg.random.normal((3,)).tolist()
    return model, optimizer, history, after, len(calls)


def numbers(result):
    """All that must not depend on a stop in between."""
    model, optimizer, history, after, _ = result
    tensors = {**model.state_dict(), **{f"optimizer.{k}": v for k, v in optimizer.state_dict().items()}}
    epochs = [(e.number, e.step, e.train_loss, e.valid_loss, e.gradient_norm) for e in history.epochs]
    return {name: value.numpy().tobytes() for name, value in tensors.items()}, epochs, history.best, after


def logged(folder):
    """The log without its times."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in ("seconds", "items_per_second")} for line in lines]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """For each kind of data, a training that was not stopped."""
    found = {}
    for kind in KINDS:
        folder = tmp_path_factory.mktemp(kind)
        result = fit(folder, kind)
        found[kind] = numbers(result), logged(folder), (folder / "best.safetensors").read_bytes(), result[-1]
    return found


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_a_training_stopped_at_any_step_goes_on_bit_for_bit(tmp_path_factory, whole, kind, data):
    expected, log, best, calls = whole[kind]
    folder = tmp_path_factory.mktemp("run")
    first = data.draw(st.integers(1, calls - 1))
    stopped = fit(folder, kind, stop_at=first)
    assert stopped[2].interrupted or stopped[-1] == calls
    if data.draw(st.booleans()):
        again = fit(folder, kind, resume=True, stop_at=data.draw(st.integers(1, calls)))  # and once more
        assert again[-1] <= calls - first
    assert numbers(fit(folder, kind, resume=True)) == expected
    assert logged(folder) == log
    assert (folder / "best.safetensors").read_bytes() == best


def test_a_training_that_was_killed_goes_on_from_its_last_epoch_and_its_log_has_each_step_once(tmp_path, whole):
    expected, log, _, _ = whole["shuffled"]
    seen = []

    def killed(epoch):
        seen.append(epoch)

    fit(tmp_path, "shuffled", epochs=2, on_best=killed)
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 7, "loss": 1.0}\n{"step": 8, "lo')  # what it did after its last checkpoint
    assert numbers(fit(tmp_path, "shuffled", resume=True)) == expected
    assert logged(tmp_path) == log


def test_a_training_that_is_over_is_only_loaded(tmp_path, whole):
    fit(tmp_path, "drawn")
    result = fit(tmp_path, "drawn", resume=True)
    assert numbers(result) == whole["drawn"][0]
    assert result[-1] == 0  # no batch was looked at


def test_a_training_that_is_over_can_be_given_more_epochs(tmp_path):
    fit(tmp_path, "windows", epochs=1)
    _, _, history, _, _ = fit(tmp_path, "windows", epochs=2, resume=True)
    assert [e.number for e in history.epochs] == [1, 2]


def test_patience_counts_epochs_from_before_the_stop(tmp_path):
    still = {"items": lambda batch: batch[-1].size}
    first = fit(tmp_path / "a", "windows", epochs=30, patience=2, **still)
    ended = len(first[2].epochs)
    assert 2 < ended < 30
    fit(tmp_path / "b", "windows", epochs=ended - 1, patience=2)
    assert numbers(fit(tmp_path / "b", "windows", epochs=30, patience=2, resume=True)) == numbers(first)


def test_the_best_weights_stand_in_a_file_of_their_own_with_what_was_said_about_them(tmp_path):
    model, *_ = fit(tmp_path, "windows")
    tensors, _ = mg.io.load(tmp_path / "best.safetensors")
    assert {k: v.tolist() for k, v in tensors.items()} == {k: v.tolist() for k, v in model.state_dict().items()}
    assert train.read_about(tmp_path / "best.safetensors") == {"kind": "windows"}


def test_the_log_has_a_line_for_every_step_and_epoch(tmp_path):
    _, optimizer, history, _, _ = fit(tmp_path, "windows")
    steps, epochs = train.read_log(tmp_path / "log.jsonl")
    assert [line["step"] for line in steps] == list(range(1, optimizer.steps + 1))
    assert [line["epoch"] for line in epochs] == [1, 2, 3]
    assert [line["valid_loss"] for line in epochs] == [e.valid_loss for e in history.epochs]
    assert steps[0]["rate"] == pytest.approx(0.05 / 3)
    per_epoch = len(steps) // 3
    norms = [line["gradient_norm"] for line in steps[:per_epoch]]
    assert history.epochs[0].gradient_norm == pytest.approx(np.mean(norms))
    assert all(line["items_per_second"] > 0 for line in steps)


def test_a_line_of_a_log_that_is_none_is_named(tmp_path):
    (tmp_path / "log").write_text('{"step": 1}\nhello\n{"step": 2}\n')
    with pytest.raises(FileFormatError, match="log, line 2"):
        train.read_log(tmp_path / "log")


def test_where_a_training_stopped_is_told_and_nothing_of_one_that_is_over_or_not_there(tmp_path):
    assert train.unfinished(tmp_path) is None
    fit(tmp_path, "shuffled", stop_at=2)
    assert train.unfinished(tmp_path) == "after step 2 of epoch 1"
    fit(tmp_path, "shuffled", resume=True)
    assert train.unfinished(tmp_path) is None


def test_a_new_training_in_the_folder_of_an_old_one_leaves_nothing_of_it(tmp_path):
    fit(tmp_path, "shuffled")
    fit(tmp_path, "shuffled", stop_at=1)
    assert not (tmp_path / "best.safetensors").exists()
    assert len(logged(tmp_path)) == 1


# What goes wrong


def test_a_training_that_failed_fails_again_with_the_best_weights_and_is_nothing_to_go_on_with(tmp_path):
    def failing(resume):
        model, calls = Reader(), []

        def loss(batch, state):
            calls.append(batch)
            value, _ = model.loss(batch, None)
            return value * (float("nan") if len(calls) == 9 else 1.0), None

        batches = windows()  # 5 of them, and a validation of 5: the ninth loss is in the validation
        with pytest.raises(mg.errors.AnomalyError, match="in validation is nan after 5 steps"):
            train.fit(model, optim.Adam(model.parameters(), 0.1), loss, batches, batches, epochs=2, folder=tmp_path,
                      resume=resume, quiet=True)  # fmt: skip
        return calls

    assert len(failing(False)) == 10
    assert train.unfinished(tmp_path) is None
    assert failing(True) == []


def test_going_on_with_nothing_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="no training to go on with"):
        fit(tmp_path, "windows", resume=True)


def test_going_on_under_other_settings_is_refused_by_the_name_of_the_setting(tmp_path):
    fit(tmp_path, "windows")
    with pytest.raises(CheckpointError, match='begun with kind = "windows", not "drawn"'):
        fit(tmp_path, "drawn", resume=True)


def test_going_on_with_another_model_is_refused_and_leaves_it_as_it_was(tmp_path):
    fit(tmp_path, "windows")
    model = nn.Linear(2, 3)
    before = model.weight.numpy().copy()
    with pytest.raises(CheckpointError, match="of another model or optimiser"):
        train.fit(model, optim.Adam(model.parameters(), 0.1), None, [1], [1], epochs=1, folder=tmp_path, resume=True,
                  about={"kind": "windows"})  # fmt: skip
    assert np.array_equal(model.weight.numpy(), before)


@pytest.mark.parametrize("content", [b"no tensors", None])
def test_a_file_that_is_no_checkpoint_is_refused_by_name(tmp_path, content):
    path = tmp_path / "last.safetensors"
    if content is None:
        mg.io.save(path, {"w": mg.ones((2,))})
    else:
        path.write_bytes(content)
    with pytest.raises(FileFormatError, match=r"last\.safetensors"):
        fit(tmp_path, "windows", resume=True)


def test_data_that_became_shorter_than_what_was_trained_on_are_refused(tmp_path):
    fit(tmp_path, "windows", stop_at=4)
    model = Reader()
    short = ContinuousBatches(TOKENS[:100], batch_size=4, length=12)
    with pytest.raises(CheckpointError, match="stopped after 4 batches"):
        train.fit(model, optim.Adam(model.parameters(), 0.1), model.loss, short, short, epochs=3, folder=tmp_path,
                  resume=True, about={"kind": "windows"}, quiet=True)  # fmt: skip


@pytest.mark.parametrize("state", [(1.0,), "text"])
def test_a_state_that_no_checkpoint_can_keep_is_named(tmp_path, state):
    model, batches = Reader(), windows()

    def loss(batch, before):
        if before is not None:
            signal.raise_signal(signal.SIGINT)
        return model.loss(batch, None)[0], state

    with pytest.raises(mg.errors.ArgumentError, match=r"the state .* holds a (float|str)"):
        train.fit(model, optim.Adam(model.parameters(), 0.1), loss, batches, batches, epochs=2, folder=tmp_path,
                  quiet=True)  # fmt: skip
