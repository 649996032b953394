"""The training loop: what it learns, what it keeps, what it carries, and what it says."""

from __future__ import annotations

import io
import math
import signal
import sys
import threading
import time

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, optim, train
from minigrad.data import CharVocabulary, ContinuousBatches
from minigrad.errors import AnomalyError, ArgumentError
from minigrad.graph import grad_enabled


class Scalar(nn.Module):
    """One number, whose loss at a batch (target,) is (number - target)^2."""

    def __init__(self, start: float = 0.0):
        self.value = nn.Parameter(mg.tensor([start]))
        self.dropout = nn.Dropout(0.5)

    def loss(self, batch, state):
        return ((self.value - float(batch[0].item())) ** 2).sum(), state


def batches(*targets: float):
    return [(np.array([t]),) for t in targets]


def learn(model=None, rate=0.1, loss=None, **options):
    model = model or Scalar()
    options = {"train": batches(1.0), "valid": batches(1.0), "epochs": 3, "quiet": True, **options}
    history = train.fit(model, optim.SGD(model.parameters(), rate), loss or model.loss, **options)
    return model, history.epochs


def character_task(text: str = "abcde" * 40):
    """A network that is to learn what follows each letter, and its batches."""
    vocabulary = CharVocabulary(text)
    embedding, recurrent = nn.Embedding(len(vocabulary), 4), nn.Recurrent(nn.GRUCell, 4, 8)
    output = nn.Linear(8, len(vocabulary))
    model = nn.Module()
    model.parts = [embedding, recurrent, output]

    def loss(batch, state):
        inputs, targets = (mg.tensor(part) for part in batch)
        hs, state = recurrent(embedding(inputs), state)
        return mg.cross_entropy(output(hs), targets), state

    return model, loss, ContinuousBatches(vocabulary.encode(text), batch_size=4, length=8)


def test_the_loss_of_a_small_task_falls_to_a_tenth():
    model, loss, data = character_task()
    optimizer = optim.Adam(model.parameters(), 0.02)
    history = train.fit(model, optimizer, loss, data, data, epochs=12, clip=1.0, quiet=True).epochs
    assert [e.number for e in history] == list(range(1, 13))
    assert history[-1].train_loss < history[0].train_loss / 10
    assert history[-1].valid_loss < 0.15 < 1.0 < history[0].train_loss


def test_an_epoch_is_summed_up_in_means_over_items_and_steps():
    """Of two batches with 1 and 3 items: by hand, with a step of 0.25 on the way down (v - t)^2 from v = 0."""
    model = Scalar()
    data = [(np.array([1.0]),), (np.array([2.0, 2.0, 2.0]),)]
    loss = lambda batch, state: (((model.value - float(batch[0][0])) ** 2).sum(), state)
    _, (epoch,) = learn(model, 0.25, loss, train=data, valid=data, epochs=1)
    # v: 0 -> 0 + 0.25 * 2 = 0.5 (loss 1, norm 2) -> 0.5 + 0.25 * 3 = 1.25 (loss 2.25, norm 3)
    assert epoch.train_loss == (1 * 1 + 2.25 * 3) / 4
    assert epoch.gradient_norm == 2.5
    assert epoch.valid_loss == pytest.approx((0.0625 * 1 + 0.5625 * 3) / 4)
    assert epoch.items_per_second == pytest.approx(4 / epoch.seconds)
    assert 0 < epoch.seconds < 60


def test_items_weighs_the_batches():
    counts = iter([1, 3, 1, 3])
    model = Scalar()
    _, (epoch,) = learn(model, 0.0, train=batches(1, 2), valid=batches(1, 2), epochs=1, items=lambda b: next(counts))
    assert epoch.train_loss == epoch.valid_loss == (1 + 4 * 3) / 4


def test_the_weights_of_the_best_epoch_are_left_and_each_better_one_is_reported():
    # A rate of 1 throws v to the other side of the training target, 0, and back: 3, -3, 3, -3.
    model, seen = Scalar(3.0), []
    _, history = learn(model, 1.0, train=batches(0.0), valid=batches(-2.0), epochs=4,
                       on_best=lambda e: seen.append((e.number, model.value.item())))  # fmt: skip
    assert [e.valid_loss for e in history] == [1.0, 25.0, 1.0, 25.0]
    assert seen == [(1, -3.0)]  # an epoch that is only as good is not better
    assert model.value.item() == -3.0


def test_a_clip_limits_each_step():
    model, history = learn(Scalar(100.0), 1.0, train=batches(0.0), epochs=1, clip=0.5)
    assert model.value.item() == 99.5
    assert history[0].gradient_norm == 200.0  # as it was before


def test_without_a_clip_the_whole_gradient_counts_and_nothing_is_warned_of(recwarn):
    model, _ = learn(Scalar(100.0), 0.25, train=batches(0.0), epochs=1)
    assert model.value.item() == 50.0
    assert not recwarn.list


def test_the_state_is_carried_cut_from_the_graph_and_none_at_the_start_of_an_epoch():
    model, seen = Scalar(), []

    def loss(batch, state):
        seen.append((grad_enabled.get(), state))
        step = 1 if state is None else state[0].item() + 1
        return ((model.value - 1) ** 2).sum(), (model.value * 0 + step, [None, model.value * 2])

    learn(model, 0.0, loss, train=batches(0, 0, 0), valid=batches(0, 0), epochs=2)
    carried = [(training, None if state is None else state[0].item()) for training, state in seen]
    assert carried == 2 * [(True, None), (True, 1.0), (True, 2.0), (False, None), (False, 1.0)]
    for _, state in seen:
        if state is not None:
            assert not state[0].requires_grad
            assert state[1][0] is None
            assert not state[1][1].requires_grad


def test_fitting_is_one_descent_after_another_by_hand():
    """The gradients of one window do not leak into the next."""
    model, _ = learn(Scalar(), 0.25, train=batches(1.0, 2.0, 4.0), valid=batches(9.0), epochs=1)
    v = 0.0
    for target in (1.0, 2.0, 4.0):
        v -= 0.25 * 2 * (v - target)
    assert model.value.item() == v


def test_training_is_in_training_mode_and_validation_is_not():
    model, seen = Scalar(), []

    def loss(batch, state):
        seen.append((model.training, model.dropout.training, grad_enabled.get()))
        return model.loss(batch, state)

    learn(model.eval(), 0.1, loss, epochs=2)
    assert seen == 2 * [(True, True, True), (False, False, False)]


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("training, inner", [(True, True), (False, False), (True, False)])
def test_evaluating_builds_no_graph_and_leaves_every_mode_as_it_was(training, inner, fails):
    model, made = Scalar(2.0), []
    model.train(training)
    model.dropout.train(inner)

    def loss(batch, state):
        made.append(model.loss(batch, state)[0])
        assert not model.training
        if fails:
            raise KeyboardInterrupt
        return made[-1], state

    if fails:
        with pytest.raises(KeyboardInterrupt):
            train.evaluate(model, loss, batches(0, 1))
    else:
        assert train.evaluate(model, loss, batches(0, 1)) == (4 + 1) / 2
    assert not any(value.requires_grad for value in made)
    assert (model.training, model.dropout.training) == (training, inner)
    assert grad_enabled.get()


@pytest.mark.parametrize("which", ["train", "valid"])
def test_no_batches_are_refused(which):
    with pytest.raises(ArgumentError, match="no batches"):
        learn(**{which: []})


@pytest.mark.parametrize("which", ["train", "valid"])
def test_batches_that_can_be_read_only_once_are_refused_when_they_have_run_out(which):
    with pytest.raises(ArgumentError, match="no batches"):
        learn(**{which: iter(batches(1.0))}, epochs=2)


def test_epochs_must_be_positive():
    with pytest.raises(ArgumentError, match="epochs"):
        learn(epochs=0)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_ends_the_training_with_the_step_and_advice(bad):
    model = Scalar()

    def loss(batch, state):
        value, state = model.loss(batch, state)
        return value * (bad if batch[0].item() == 7 else 1.0), state

    with pytest.raises(AnomalyError, match=rf"loss is {bad} at step 3 of epoch 1.*learning rate.*detect_anomaly"):
        learn(model, 0.25, loss, train=batches(1, 1, 7, 1))
    assert model.value.item() == 0.75  # from two steps; the third was not taken


def test_a_loss_that_becomes_nan_in_a_later_epoch_leaves_the_weights_of_the_best():
    model, calls = Scalar(), []

    def loss(batch, state):
        calls.append(batch)
        value, state = model.loss(batch, state)
        return value * (math.nan if len(calls) == 5 else 1.0), state  # after two steps, a validation and another step

    with pytest.raises(AnomalyError, match="step 2 of epoch 2"):
        learn(model, 0.25, loss, train=batches(1, 1), valid=batches(1), epochs=2)
    assert model.value.item() == 0.75


@pytest.mark.parametrize("when", ["training", "validation", "the first step"])
def test_ctrl_c_ends_the_training_after_the_step_with_the_best_weights_so_far(when, capsys):
    model, calls = Scalar(), []

    def loss(batch, state):
        calls.append(batch)
        if len(calls) == {"training": 4, "validation": 6, "the first step": 1}[when]:
            signal.raise_signal(signal.SIGINT)
        return model.loss(batch, state)

    _, epochs = learn(model, 0.25, loss, train=batches(1.0, 1.0), valid=batches(1.0), epochs=9, quiet=False)
    # An epoch is two steps and a validation. What is being done when Ctrl-C comes is done to its end.
    whole = {"training": 1, "validation": 2, "the first step": 0}[when]
    assert len(calls) == {"training": 4, "validation": 6, "the first step": 1}[when]
    assert [e.number for e in epochs] == list(range(1, whole + 1))
    assert model.value.item() == {"training": 0.75, "validation": 0.9375, "the first step": 0.5}[when]
    said = f"those of the best of {whole} whole epochs" if whole else "the latest"
    assert f"stopped; the weights are {said}" in capsys.readouterr().out
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_ctrl_c_ends_the_training_at_once_with_the_best_weights():
    model, calls = Scalar(), []

    def loss(batch, state):
        calls.append(batch)
        if len(calls) == 5:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            calls.append("not reached")
        return model.loss(batch, state)

    with pytest.raises(KeyboardInterrupt):
        learn(model, 0.25, loss, train=batches(1.0, 1.0), valid=batches(1.0), epochs=9)
    assert len(calls) == 5
    assert model.value.item() == 0.75
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_where_ctrl_c_is_ignored_as_in_the_background_it_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        model = Scalar()
        loss = lambda batch, state: (signal.raise_signal(signal.SIGINT), model.loss(batch, state))[1]
        assert len(learn(model, 0.25, loss)[1]) == 3
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_in_another_thread_than_the_main_one_training_goes_on_as_ever():
    found = []
    thread = threading.Thread(target=lambda: found.append(learn()[1]))
    thread.start()
    thread.join()
    assert len(found[0]) == 3


def test_patience_ends_the_training_after_so_many_epochs_without_improvement(capsys):
    # A rate of 1 throws v to the other side of the training target: validation is 1, 25, 1, 25.
    model, epochs = learn(Scalar(3.0), 1.0, train=batches(0.0), valid=batches(-2.0), epochs=9, patience=2, quiet=False)
    assert [e.valid_loss for e in epochs] == [1.0, 25.0, 1.0]
    assert model.value.item() == -3.0
    assert "no better since epoch 1: done" in capsys.readouterr().out


@pytest.mark.parametrize("goal, epochs", [(0.3, 1), (0.1, 2), (0.0625, 2), (0.06, 3), (0.0, 5)])
def test_a_goal_ends_the_training_when_the_loss_in_validation_is_no_larger(goal, epochs, capsys):
    # v comes half of the way to 1 in each epoch of one step: validation is 1/4, 1/16, 1/64, ...
    model, done = learn(rate=0.25, epochs=5, goal=goal, quiet=False)
    assert [e.valid_loss for e in done] == [0.25**n for n in range(1, epochs + 1)]
    assert model.value.item() == 1 - 0.5**epochs
    assert ("the goal is reached: done" in capsys.readouterr().out) == (epochs < 5)


@pytest.mark.parametrize("wrong", [{"patience": 0}, {"resume": True}])
def test_what_makes_no_sense_is_refused_by_name(wrong):
    with pytest.raises(ArgumentError, match=next(iter(wrong))):
        learn(**wrong)


def test_a_model_is_left_ready_for_use():
    model, _ = learn()
    assert not model.training
    assert not model.dropout.training


@pytest.mark.parametrize("where", ["training", "validation"])
def test_a_nan_names_where_it_came_up(where):
    model = Scalar()
    loss = lambda batch, state: (model.loss(batch, state)[0] * (math.nan if batch[0].item() == 7 else 1.0), state)
    wrong = {"train": batches(1.0, 7.0)} if where == "training" else {"valid": batches(7.0)}
    with pytest.raises(AnomalyError, match="step 2 of epoch 1" if where == "training" else "in validation is nan"):
        learn(model, 0.1, loss, **wrong)


@pytest.mark.filterwarnings("ignore:overflow encountered")
def test_a_gradient_that_is_not_finite_under_a_finite_loss_ends_the_training_too():
    model = Scalar(1e-30)
    loss = lambda batch, state: ((model.value**0.25).sum() * 1e25, state)
    with pytest.raises(AnomalyError, match="with a gradient norm of inf"):
        learn(model, 0.1, loss)


def test_quiet_says_nothing(capsys):
    learn()
    assert capsys.readouterr() == ("", "")


def test_where_there_is_no_terminal_an_epoch_is_one_line(capsys):
    measure = train.Measure("bits", lambda nats: nats / math.log(2))
    _, history = learn(quiet=False, measure=measure, item="char", epochs=3)
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert err == ""
    assert len(lines) == 3
    for number, (line, epoch) in enumerate(zip(lines, history), 1):
        assert line.startswith(f"epoch {number}/3 ")
        assert f"train {epoch.train_loss / math.log(2):.3f} bits" in line
        assert f"validation {epoch.valid_loss / math.log(2):.3f} bits" in line
        assert "chars/s" in line
        assert f"gradient norm {epoch.gradient_norm:.2f}" in line
        assert " * " in line  # better than all before


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_on_a_terminal_a_bar_counts_steps_and_shows_the_loss_in_the_measure_and_items_per_second(monkeypatch, capsys):
    pytest.importorskip("tqdm")
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    measure = train.Measure("bits", lambda nats: nats / math.log(2))
    model = Scalar()
    data = [{"target": 1.0}] * 4  # whose items only `items` can count

    def loss(batch, state):
        time.sleep(0.04)  # the bar is drawn ten times a second
        return ((model.value - batch["target"]) ** 2).sum(), state

    learn(model, 0.0, loss, train=data, valid=data, epochs=1, quiet=False, items=lambda b: 250, item="char",
          measure=measure)  # fmt: skip
    shown = screen.getvalue()
    assert "epoch 1/1" in shown
    assert "loss 1.000, 1.443 bits, " in shown
    assert " chars/s, gradient norm 2.00" in shown
    assert "3/4" in shown
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_on_a_terminal_the_numbers_are_those_that_come_without_one(monkeypatch):
    """Batches drawn at random are not drawn once more for the bar."""

    class Random:
        def __len__(self):
            return 3

        def __iter__(self):
            for _ in range(3):
                yield (mg.random.normal((1,)).numpy(),)

    results = []
    for stream in (io.StringIO(), Terminal()):
        monkeypatch.setattr(sys, "stderr", stream)
        with mg.seed(0):
            _, history = learn(train=Random(), epochs=2, quiet=False)
        results.append([e.train_loss for e in history])
    assert results[0] == results[1]


def test_without_tqdm_a_terminal_gets_the_lines_alone(monkeypatch, capsys):
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setitem(sys.modules, "tqdm", None)
    learn(quiet=False, epochs=2)
    assert screen.getvalue() == ""
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_a_loss_without_a_state_and_an_optimizer_of_another_model_are_refused():
    model = Scalar()
    with pytest.raises(ArgumentError, match=r"must return \(loss, state\)"):
        learn(model, 0.25, lambda batch, state: model.loss(batch, state)[0])
    other = mg.optim.SGD(Scalar().parameters(), 0.1)
    with pytest.raises(ArgumentError, match="does not depend on any"):
        train.fit(model, other, model.loss, batches(1), batches(1), epochs=1, quiet=True)
