"""Checks of a cell's gradients, by everything that they can be taken by, against finite differences."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from .. import backends, ops, transforms
from ..graph import no_grad
from ..tensor import Tensor
from .findings import TWICE, Mistake, Note, Skip, place
from .gradients import GradcheckReport, Mismatch, _advice, _compare, _weights
from .trial import Trial, by_network, weights_of

_AFFORDABLE = (300, 100)  # elements to differentiate by, at order 1 and 2


def gradients(trial: Trial) -> str:
    """The gradients, beside differences of values."""
    return _by_order(trial, 1)


def gradients_again(trial: Trial) -> str:
    """The gradients of gradients, beside differences of gradients."""
    return _by_order(trial, 2)


def _by_order(trial: Trial, order: int) -> str:
    """The gradients in training, and out of it where they are others."""
    runs = [trial.run(trial.copy(training=training), trial.point(), by_network()) for training in (False, True)]
    same = all(
        np.array_equal(a, b)
        for kind in ("values", "gradients")
        for a, b in zip(getattr(runs[0], kind).values(), getattr(runs[1], kind).values())
    )
    text = _against_differences(trial, order, training=False)
    return text if same else f"{text}; in training {_against_differences(trial, order, training=True)}"


def _against_differences(trial: Trial, order: int, *, training: bool) -> str:
    """At one point; at up to three, if an array disagrees, which it does by chance where the cell has kinks."""
    first: _Comparison | None = None
    suspects: set[str] = set()
    for k in range(3):
        found = _Comparison(trial, k, order, training)
        trial.used |= found.nonzero
        names = {_of(m.name) for m in found.report.mismatches}
        suspects = names if first is None else suspects & names
        first = first or found
        if not suspects:
            return found.text + (f"; {k} of {k + 1} points lie at a kink" if k else "")
    assert first is not None
    wrong = [m for m in first.report.mismatches if _of(m.name) in suspects]
    raise Mistake(*_gradient_mistake(wrong, order, training))


def weights_used(trial: Trial) -> str:
    """The weights that have no gradient anywhere, and what asks for one and is no weight; after `gradients`."""
    names = [name for name, p in weights_of(trial.raw()).items() if p.size]
    unused = [name for name in names if name not in trial.used]
    words = []
    if unused:
        words.append(
            f"{', '.join(unused)}: the gradient is exactly 0 everywhere; not used, or cut off on the way (.detach())"
        )
    if unlearned := trial.unlearned():
        words.append(
            f"{', '.join(unlearned)}: requires_grad alone makes no weight, and no optimizer will find it; "
            "nn.Parameter(...) makes one"
        )
    if words:
        raise Note("; ".join(words))
    return f"each of {len(names)} has a gradient" if names else "the cell has none"


class _Comparison:
    """The gradients of a cell over a sequence, at one point, beside finite differences.

    report: the comparison. text: how much was compared. nonzero: the names of those that have a gradient.
    """

    def __init__(self, trial: Trial, k: int, order: int, training: bool):
        point, cell = trial.point(k), trial.copy(k, training=training)
        variables = trial.variables(cell, point)
        names = list(variables)
        parameters = weights_of(cell)
        points = [v.detach() for v in variables.values()]
        rng = np.random.default_rng([k, order])
        self.report, self.nonzero = GradcheckReport(0, 0.0, []), set[str]()

        def f(*values: Tensor) -> list[Tensor]:
            given = dict(zip(names, values))
            for name, p in parameters.items():  # they stay so, for what is computed again in a backward pass
                p.data, p.node = given[name].data, given[name].node
            results = trial.forward(cell, point, given, by_network())
            return [y for y in results.values() if backends.is_floating(y.data)]

        with no_grad():
            cotangents = [_weights(rng, y) for y in f(*points)]
        if not cotangents:
            raise Skip("the cell gives no floats, and so has no gradients")
        if not points:
            raise Skip("there is nothing of floats to differentiate by")

        def gradient(*values: Tensor) -> list[Tensor]:
            _, pull = transforms.vjp(lambda *inputs: f(*inputs), *values[: len(names)])
            return list(pull(list(values[len(names) :])))

        if order == 1:
            self._compare(1, f, points, cotangents, names, rng)
            for name, g in zip(names, gradient(*points, *cotangents)):
                if bool((g.numpy() != 0).any()):
                    self.nonzero.add(name)
        else:
            self._compare(
                2,
                gradient,
                [*points, *cotangents],
                [_weights(rng, x) for x in points],
                [*names, *(f"the cotangent of result {i}" for i in range(len(cotangents)))],
                rng,
            )

    def _compare(
        self,
        order: int,
        f: Callable[..., list[Tensor]],
        points: Sequence[Tensor],
        weights: Sequence[Tensor],
        names: Sequence[str],
        rng: np.random.Generator,
    ) -> None:
        """By all elements, if they are few; else by some of each array, and by two random directions of length 1."""
        budget, total = _AFFORDABLE[order - 1], sum(x.size for x in points)
        places: list[Sequence[tuple[int, ...]] | None] = [None] * len(points)
        directions: dict[int, Tensor] = {}
        share = max(2, budget // len(points))
        for i, x in enumerate(points):
            if total > budget and x.size > share:
                chosen = np.sort(rng.choice(x.size, share, replace=False))
                places[i] = [tuple(int(j) for j in np.unravel_index(c, x.shape)) for c in chosen]
                directions[i] = Tensor(rng.choice([-1.0, 1.0], (2, x.size)) / np.sqrt(x.size))

        def moved(*values: Tensor) -> list[Tensor]:
            arrays = list(values[: len(points)])
            for (i, d), e in zip(directions.items(), values[len(points) :]):
                arrays[i] = arrays[i] + ops.reshape(ops.matmul(ops.reshape(e, (1, 2)), d), arrays[i].shape)
            return f(*arrays)

        offs = [Tensor(np.zeros(2)) for _ in directions]
        along = [f"{names[i]}{_ALONG}" for i in directions]
        _compare(
            order, moved, [*points, *offs], weights, [*names, *along], self.report, [*places, *([None] * len(offs))]
        )
        extra = 2 * len(offs)
        compared = self.report.compared - extra
        how_many = (
            f"{compared} elements" if not extra else f"{compared} of {total:,} elements, {extra} random directions"
        )
        self.text = f"{how_many}, to {self.report.worst:.1e} of the largest"


_ALONG = " along a random direction"


def _of(name: str) -> str:
    """The array that a mismatch belongs to."""
    return name.removesuffix(_ALONG)


def _gradient_mistake(wrong: list[Mismatch], order: int, training: bool) -> list[str]:
    """What is wrong with gradients that differ from finite differences, and the likely cause."""
    by_name: dict[str, list[Mismatch]] = {}
    for m in wrong:
        by_name.setdefault(_of(m.name), []).append(m)

    def is_cut(name: str) -> bool:
        return all(m.backward == 0 for m in by_name[name])

    def off(name: str) -> float:
        return max(abs(m.backward - m.difference) if m.backward == m.backward else np.inf for m in by_name[name])

    names = sorted(by_name, key=lambda name: (not is_cut(name), -off(name)))
    worst = max(by_name[names[0]], key=lambda m: (_ALONG not in m.name, abs(m.backward - m.difference)))
    where = worst.name if _ALONG in worst.name else place(worst.name, worst.index)
    again = "the gradient of the gradient" if order == 2 else "the gradient"
    what = (
        f"{again} by {where} is {worst.backward:.6g} by the backward pass, {worst.difference:.6g} by differences"
        + " (in training)" * training
    )
    others = f"Others that differ: {', '.join(names[1:])}." if names[1:] else ""
    ratios = [m.backward / m.difference for m in by_name[names[0]] if abs(m.difference) > 1e-9]
    if order == 2:
        cause = f"The gradient itself is right. {TWICE}"
    elif is_cut(names[0]):
        cause = (
            "It is cut from the graph: by .detach(), .numpy(), .item(), mg.no_grad() or "
            "mg.tensor() of a tensor, or by an operation without a backward rule."
        )
    elif ratios and max(ratios) - min(ratios) < 1e-4 * abs(ratios[0]):
        cause = (
            f"The ratio is {ratios[0]:.4g} everywhere: {_advice(ratios[0])} mg.gradcheck tries an operation by itself."
        )
    else:
        cause = (
            "Either something on its way is cut from the graph (.detach() or the like), or a backward rule is wrong: "
            "mg.gradcheck tries an operation by itself."
        )
    return [what, cause, others]
