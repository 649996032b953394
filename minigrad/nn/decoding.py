"""Sequences out of a model that predicts the next token: the likeliest token, a random one, the likeliest sequence.

A model is a function of the user, `step(tokens, state) -> (logits, state)`, with tokens int64 (B,), logits floats
(B, V) that may be -inf for what is impossible, and a state as cells have it: None, or nested tuples, lists and dicts of
tensors whose rows (B, ...) come first. Parts without rows (numbers, 0-d tensors) belong to all of them. Only
`beam_search` looks into the state; where its rows stand on another axis, as those of nn.LSTM, `rows_axis` tells it so.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from math import inf, isfinite
from operator import index
from typing import Any, NamedTuple

from .. import backends, functional, ops, random, tree
from ..errors import AnomalyError, ArgumentError, DtypeError, OutOfRangeError, ShapeError
from ..graph import no_grad
from ..tensor import Tensor, tensor
from .network import words
from .sequences import by_row, valid_steps

Step = Callable[[Tensor, Any], tuple[Tensor, Any]]


class Decoded(NamedTuple):
    """A sequence for each row.

    tokens: lists of integers, without the first token and without the stop token.
    log_probabilities: the logarithm of each sequence's probability under the model, the stop token's included.
    """

    tokens: list[list[int]]
    log_probabilities: list[float]


class Hypothesis(NamedTuple):
    """A sequence that beam search has found: its tokens without the stop token, and its log-probability with it.

    score: log_probability / length**length_penalty, by which hypotheses are ranked. The length counts the stop token.
    """

    tokens: list[int]
    log_probability: float
    score: float


def greedy(
    step: Step, state: Any, first: Any, steps: int, *, stop: int | None = None, forbidden: Collection[int] = ()
) -> Decoded:
    """The likeliest token at each step, the first of equals, until each row has made `stop` or so many tokens.

    step, state: the model and the state it begins with, see the head of this module.
    first: integers (B,), a tensor, an array or a list: what the model reads first, such as <SOS>, or a number that is
        no token but that `step` knows as the beginning, such as -1.
    steps: how many tokens a row makes at most, `stop` included.
    stop: the token that ends a row, such as <EOS>. An ended row is fed it further, and what comes of that is ignored.
    forbidden: tokens that are never made, such as <UNK>. The log-probabilities stay the model's own: they are not
        normalised over the tokens that are left.

    Returns `Decoded`, a pair: `tokens`, a list of integers for each row, without the stop token, and
    `log_probabilities`, a float for each row, with it. Nothing is recorded for gradients. Log-probabilities are
    computed in float64.

    Raises AnomalyError for logits with NaN or +inf, or with -inf alone; ArgumentError for arguments that contradict
    each other, also where a row is left with no token that is possible; DtypeError for tokens that are not integers
    and logits that are no tensor of floats; OutOfRangeError for `stop` or `forbidden` not in 0 ... V-1; ShapeError for
    what does not fit.

    >>> import minigrad as mg
    >>> from minigrad.nn.decoding import greedy
    >>> follows = mg.log(mg.tensor([[0.1, 0.7, 0.2], [0.1, 0.1, 0.8], [0.8, 0.1, 0.1]]))
    >>> greedy(lambda tokens, state: (follows[tokens], state), None, [0, 2], 10, stop=2).tokens
    [[1], [0, 1]]
    """
    return _one_by_one(_Model("greedy", step, state, first, steps, stop, forbidden), _likeliest)


def sample(
    step: Step,
    state: Any,
    first: Any,
    steps: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    stop: int | None = None,
    forbidden: Collection[int] = (),
) -> Decoded:
    """Tokens drawn at random from softmax(logits / temperature), until each row has made `stop` or so many tokens.

    temperature: below 1 the model plays safe, above 1 it dares more; 0 is `greedy`.
    top_k: draw among the k likeliest tokens only (Fan et al. 2018, section 5.3).
    forbidden: tokens that are never made; they do not count among the k, and the others share their probability.

    The log-probabilities are the model's own: neither the temperature nor top_k nor `forbidden` alters them. The
    random numbers are those of `mg.random.generator()`, one for each row at each step, also for rows that have ended,
    and the same on every backend. The other arguments, and what is raised, are as for `greedy`; ArgumentError besides
    for a temperature below 0 or not finite, or top_k below 1.

    >>> import minigrad as mg
    >>> from minigrad.nn.decoding import sample
    >>> with mg.seed(0):
    ...     coins = sample(lambda tokens, state: (mg.zeros((1, 2)), state), None, [0], 10)
    >>> coins.tokens, round(coins.log_probabilities[0] / mg.log(mg.tensor(0.5)).item(), 3)
    ([[1, 0, 0, 0, 1, 1, 1, 1, 1, 1]], 10.0)
    """
    if not _is_finite(temperature) or temperature < 0:
        raise ArgumentError(f"sample: temperature must be a finite number from 0, got {temperature!r}")
    k = None if top_k is None else backends.as_count("sample", "top_k", top_k, 1)
    model = _Model("sample", step, state, first, steps, stop, forbidden)
    return _one_by_one(model, _likeliest if temperature == 0 else lambda table: _drawn(table, temperature, k))


def beam_search(
    step: Step,
    state: Any,
    first: Any,
    steps: int,
    *,
    width: int = 5,
    length_penalty: float = 0.0,
    stop: int | None = None,
    forbidden: Collection[int] = (),
    rows_axis: int = 0,
) -> list[list[Hypothesis]]:
    """For each row the best `width` sequences found, best first; fewer if there are no more.

    At each step every live hypothesis of a row is continued by every token, and the `width` of these with the largest
    log-probability are kept. Those that made `stop` are put aside, with their score; the others live on (Sutskever et
    al. 2014, section 3.2). A row is done when `width` are put aside and no live one could still reach the score of the
    last of them. What lives after all steps counts as it stands. Width 1 is `greedy`; a width of V**steps finds the
    best of all sequences, and all of them.

    length_penalty: score = log_probability / length**length_penalty. 0 leaves the log-probability, which falls with
        every token and so favours short sequences; 1 is the mean for each token; negative numbers favour short ones
        more. (Wu et al. 2016, equation 14, divide by ((5 + length) / 6)**a instead.)
    forbidden: tokens that no hypothesis holds. Ranks and scores are by the model's own log-probabilities.
    rows_axis: on which axis of the state the rows stand: 0 for cells, 1 for nn.LSTM, nn.GRU and nn.RNN, whose states
        are (layers * directions, B, H). It is the same for all parts of the state.

    The first step is taken with the B rows as they are given. From then on all hypotheses of all rows go through
    `step` together, as B * width rows, those of one row side by side: the rows of the state are repeated, and
    re-ordered as hypotheses are dropped and continued. So all that `step` reads for each row, such as the outputs of
    an encoder, must be part of the state. The rows are counted in every part of it after each step, so that rows on an
    axis other than rows_axis are noticed, unless `step` itself broadcasts them.

    The other arguments, and what is raised, are as for `greedy`; besides ArgumentError for a width below 1, a rows_axis
    below 0 or a length_penalty that is not finite or too large to compute with, ShapeError for a part of the state
    whose rows are not on rows_axis, DtypeError for one that is neither a tensor nor a number.

    >>> import minigrad as mg
    >>> from minigrad.nn.decoding import beam_search, greedy
    >>> follows = mg.log(mg.tensor([[0.1, 0.5, 0.4], [0.4, 0.3, 0.3], [0.1, 0.1, 0.8]]))
    >>> def step(tokens, state):
    ...     return follows[tokens], state
    >>> greedy(step, None, [0], 2).tokens
    [[1, 0]]
    >>> [(h.tokens, round(h.score, 3)) for h in beam_search(step, None, [0], 2, width=2)[0]]
    [([2, 2], -1.139), ([1, 0], -1.609)]
    """
    width = backends.as_count("beam_search", "width", width, 1)
    rows_axis = backends.as_count("beam_search", "rows_axis", rows_axis, 0)
    model = _Model("beam_search", step, state, first, steps, stop, forbidden)
    score, reachable = _scores(length_penalty, model.steps)
    rows = len(model.first)
    live = [[Hypothesis([], 0.0, 0.0)] for _ in range(rows)]
    finished: list[list[Hypothesis]] = [[] for _ in range(rows)]
    states = _Rows(model, rows_axis)

    # How many places each row has. Before the first step it has one hypothesis, and so the state need not be touched
    # before `step` has shown how many rows it makes of B. Later there are more places than rows, whoever is alive: were
    # there ever as many, a count of B would say nothing about which axis the rows are on.
    span = 1
    tokens, parents = model.first, list(range(rows))
    for length in range(1, model.steps + 1):
        if not any(live):
            break
        states.take(parents)
        try:
            table = model.predict(tokens, [k < len(row) for row in live for k in range(span)]).numpy()
        except ShapeError as error:
            states.explain(error)
            raise
        states.check(len(tokens))
        # A place without a live hypothesis is fed what the model surely takes: the row's first token.
        tokens = [token for token in model.first for _ in range(width)]
        parents = [row * span for row in range(rows) for _ in range(width)]
        for row, parts in enumerate(live):
            if not parts:
                continue
            places = slice(row * span, row * span + len(parts))
            totals = table[places] + [[part.log_probability] for part in parts]
            live[row] = []
            for choice in (-totals).argsort(axis=None, kind="stable")[:width].tolist():
                k, token = divmod(choice, totals.shape[1])
                log_probability = float(totals[k, token])
                if log_probability == -inf:
                    break
                own_score = score(log_probability, length)
                if token == model.stop:
                    finished[row].append(Hypothesis(parts[k].tokens, log_probability, own_score))
                    continue
                place = row * width + len(live[row])
                tokens[place], parents[place] = token, row * span + k
                live[row].append(Hypothesis([*parts[k].tokens, token], log_probability, own_score))
            finished[row] = _best(finished[row], width)
            if not live[row] and not finished[row]:
                raise model.stuck(row)
            if len(finished[row]) == width and all(
                reachable(part.log_probability, length) <= finished[row][-1].score for part in live[row]
            ):
                live[row] = []
        span = width
    return [_best(done + unfinished, width) for done, unfinished in zip(finished, live)]


def log_probability(logits: Tensor, tokens: Any, lengths: Any = None) -> Tensor:
    """The log-probability of given sequences: the sum over steps of log softmax(logits) at the token. (B,)

    logits: (T, B, V), as a model gives them that is fed the sequence itself (teacher forcing): those at step t are
        the prediction of tokens[t]. tokens: integers (T, B), a stop token included if it counts.
    lengths: how many steps of each row count: integers (B,) from 0 to T. What stands after them has no effect, even
        NaN or a token that is none, and a gradient of exactly 0.

    Differentiable. Raises ShapeError, DtypeError for tokens that are not integers, OutOfRangeError for one that is not
    in 0 ... V-1 (looked for on the CPU only), ArgumentError for lengths that do not fit.

    >>> import minigrad as mg
    >>> from minigrad.nn.decoding import log_probability
    >>> log_probability(mg.log(mg.tensor([[[0.5, 0.5]], [[0.9, 0.1]]])), [[0], [1]])
    tensor([-2.9957323])
    """
    if not isinstance(logits, Tensor):
        raise DtypeError(f"log_probability: logits must be a tensor, got {type(logits).__name__}; mg.tensor makes one")
    if not backends.is_floating(logits.data):
        raise DtypeError(f"log_probability: logits must be floats, got {logits.dtype}")
    if logits.ndim != 3 or not logits.shape[2]:
        raise ShapeError(f"log_probability: logits must be (T, B, V), V at least 1, got the shape {logits.shape}")
    T, B, V = logits.shape
    if not isinstance(tokens, Tensor):
        given = backends.is_array(tokens)
        tokens = tensor(tokens, dtype=None if given else "int64", backend=None if given else logits.backend)
    if tokens.shape != (T, B):
        raise ShapeError(f"log_probability: tokens must be (T, B) = {(T, B)}, got the shape {tokens.shape}")
    if backends.kind_of(tokens.data) != "integer":
        raise DtypeError(
            f"log_probability: tokens must be integers, got {tokens.dtype}; .astype(mg.int64) makes them so"
        )
    valid = None if lengths is None else valid_steps(lengths, T, B, logits, "log_probability")
    if valid is not None:
        logits, tokens = by_row(valid, logits, 0.0), by_row(valid, tokens, 0)
    xp = backends.require_same("log_probability", [logits.data, tokens.data])
    xp.require_range(tokens.data, V, "log_probability: token")
    terms = functional.cross_entropy(logits, tokens, reduction="none")
    return -ops.sum(terms if valid is None else by_row(valid, terms, 0.0), axis=0)


class _Model:
    """A step and its state, asked with lists of tokens for tables of log-probabilities; and the arguments, checked.

    Choosing is a matter of few numbers, compared one by one: it is done on the CPU, wherever the model is.
    """

    def __init__(
        self,
        function: str,
        step: Step,
        state: Any,
        first: Any,
        steps: int,
        stop: int | None,
        forbidden: Iterable[int],
    ):
        self.function, self.step, self.state = function, step, state
        self.first = _integers(function, "first", first)
        self.steps = backends.as_count(function, "steps", steps, 0)
        self.stop = None if stop is None else _integers(function, "stop", [stop])[0]
        self.forbidden = sorted(set(_integers(function, "forbidden", forbidden)))
        if self.stop in self.forbidden:
            raise ArgumentError(f"{function}: stop={stop} is among the forbidden tokens, so no row would ever end")
        near = [first, *tree.leaves(state)]
        self.backend = next((part.backend for part in near if isinstance(part, Tensor)), None)
        self.made = 0  # steps
        self.taboo: Tensor | None = None  # whether a token is forbidden (V,)

    @no_grad()
    def predict(self, tokens: list[int], live: Sequence[bool]) -> Tensor:
        """A step: the log-probabilities (rows, V) of what follows the tokens, float64 on the CPU; -inf if forbidden.

        Rows that are not live get some finite numbers.
        """
        result = self.step(tensor(tokens, dtype="int64", backend=self.backend), self.state)
        if not isinstance(result, tuple) or len(result) != 2:
            raise ArgumentError(f"{self.function}: step must return (logits, state), got {words(result)}")
        logits, state = result
        if not isinstance(logits, Tensor):
            swapped = logits is None or any(isinstance(part, Tensor) for part in tree.leaves(logits))
            raise DtypeError(
                f"{self.function}: step must return (logits, state), and logits must be a tensor, got "
                f"{type(logits).__name__}; "
                + ("are logits and state in this order?" if swapped else "mg.tensor makes one")
            )
        self.state = state
        self.made += 1
        if not backends.is_floating(logits.data):
            raise DtypeError(f"{self.function}: step must return logits that are floats, got {logits.dtype}")
        if logits.ndim != 2 or not logits.shape[1]:
            raise ShapeError(f"{self.function}: step must return logits (B, V), V at least 1, got {logits.shape}")
        if self.taboo is None:
            self.taboo = self._taboo(logits.shape[1])
        expected = (len(tokens), *self.taboo.shape)
        if logits.shape != expected:
            raise ShapeError(f"{self.function}: step must return logits {expected} this time, got {logits.shape}")
        logits = logits.to("numpy").astype("float64")
        logits = ops.where(tensor([[alive] for alive in live], backend="numpy"), logits, 0.0)
        largest = ops.max(logits, axis=1)
        for place, fine in enumerate(ops.isfinite(largest).tolist()):
            if not fine:
                found = largest[place].item()
                raise AnomalyError(
                    f"{self.function}: at step {self.made} the logits of row {place * len(self.first) // len(tokens)} "
                    f"{'are all -inf' if found == -inf else 'hold NaN or inf'}, so there is no likeliest token; "
                    "with mg.detect_anomaly(): finds the operation that made them"
                )
        return ops.where(self.taboo, -inf, functional.log_softmax(logits))

    def _taboo(self, vocabulary: int) -> Tensor:
        """Which tokens are forbidden, now that it is known how many there are."""
        for name, tokens in (("stop", [] if self.stop is None else [self.stop]), ("forbidden", self.forbidden)):
            for token in tokens:
                if not 0 <= token < vocabulary:
                    raise OutOfRangeError(
                        f"{self.function}: {name}: {token} is no token: the logits are of 0 ... {vocabulary - 1}"
                    )
        if len(self.forbidden) == vocabulary:
            raise ArgumentError(f"{self.function}: all {vocabulary} tokens are forbidden, so none is left to be made")
        return tensor([token in self.forbidden for token in range(vocabulary)], backend="numpy")

    def stuck(self, row: int) -> ArgumentError:
        """The error where no token is left for a row."""
        return ArgumentError(
            f"{self.function}: at step {self.made} all tokens that are possible in row {row}, with logits above -inf, "
            f"are forbidden: {self.forbidden}"
        )


class _Rows:
    """The rows of a model's state: counted, and taken along an axis.

    That an axis is as long as there are rows does not make it theirs: (layers, B, H) with as many layers as rows passes
    for a state whose rows come first. But only the axis of the rows follows when their number goes from B to B * width.
    """

    def __init__(self, model: _Model, axis: int):
        self.model, self.axis = model, axis
        self.is_ambiguous = False  # whether after the first step another axis was as long as there were rows
        self.in_doubt = False  # whether rows that have just been repeated might have been on that one
        if model.first and model.steps:
            self.check(len(model.first))

    def check(self, count: int) -> None:
        """Raise ShapeError for a part of the state whose rows, so many, are not on the axis."""
        parts = [part for part in tree.leaves(self.model.state) if not _is_common(part)]
        for part in parts:
            if not isinstance(part, Tensor):
                raise DtypeError(
                    f"{self.model.function}: a state holds tensors and numbers, got {type(part).__name__}; mg.tensor "
                    "makes one, whose rows can follow their hypotheses"
                )
            if part.ndim <= self.axis or part.shape[self.axis] != count:
                raise ShapeError(
                    f"{self.model.function}: a part of the state has the shape {part.shape}, and its axis {self.axis} "
                    f"is not the rows, of which there are {count}; {self._way_out()}. Only numbers and 0-d tensors "
                    "belong to all rows"
                )
        self.in_doubt = False
        if self.model.made == 1:
            self.is_ambiguous = any(part.shape.count(count) > 1 for part in parts)

    def explain(self, error: ShapeError) -> None:
        """Raise what an error of `step` may come from, if it may."""
        if self.in_doubt:
            raise ShapeError(
                f"{self.model.function}: step cannot take the state after its rows were repeated along axis "
                f"{self.axis} for the hypotheses: {error}. If that axis is not the rows: {self._way_out()}"
            ) from error

    @no_grad()
    def take(self, parents: list[int]) -> None:
        """Row i becomes what row parents[i] was."""
        if parents == list(range(len(parents))):
            return
        self.in_doubt = self.model.made == 1 and self.is_ambiguous
        positions = tensor(parents, dtype="int64", backend=self.model.backend)
        self.model.state = tree.map(
            lambda part: part if _is_common(part) else ops.take(part, positions, axis=self.axis), self.model.state
        )

    def _way_out(self) -> str:
        if self.axis == 1:
            return "rows_axis=0 is for states whose rows come first, as those of cells"
        return "rows_axis=1 is for states whose rows stand on the second axis, as those of nn.LSTM, nn.GRU and nn.RNN"


def _is_common(part: Any) -> bool:
    """Whether a part of a state belongs to all rows."""
    return isinstance(part, (bool, int, float)) or (isinstance(part, Tensor) and part.ndim == 0)


def _one_by_one(model: _Model, choose: Callable[[Tensor], list[int]]) -> Decoded:
    """One sequence for each row, each token chosen from the table of log-probabilities at its step."""
    found: list[list[int]] = [[] for _ in model.first]
    totals = [0.0] * len(found)
    live = [True] * len(found)
    tokens = model.first
    for _ in range(model.steps):
        if not any(live):
            break
        table = model.predict(tokens, live)
        for row, best in enumerate(ops.max(table, axis=1).tolist()):
            if best == -inf:
                raise model.stuck(row)
        tokens = [new if alive else old for new, old, alive in zip(choose(table), tokens, live)]
        values = table.numpy()
        for row, token in enumerate(tokens):
            if live[row]:
                totals[row] += float(values[row, token])
                live[row] = token != model.stop
                if live[row]:
                    found[row].append(token)
    return Decoded(found, totals)


def _likeliest(table: Tensor) -> list[int]:
    return ops.argmax(table, axis=1).tolist()


def _drawn(table: Tensor, temperature: float, k: int | None) -> list[int]:
    """For each row a token with a probability in proportion to exp(log-probability / temperature), if among the k."""
    order = (-table.numpy()).argsort(axis=1, kind="stable")[:, :k]
    z = ops.take_along_axis(table, Tensor(order), axis=1)
    # exp(-800) is 0 already; without this floor, dividing by a tiny temperature would overflow.
    weights = ops.exp(ops.maximum(z - z[:, :1], -800 * temperature) / temperature)
    sums = ops.cumulative_sum(weights, axis=1).numpy()
    level = random.generator().random(len(sums))[:, None] * sums[:, -1:]
    return [int(order[row, place]) for row, place in enumerate((sums <= level).sum(axis=1).tolist())]


def _scores(length_penalty: float, steps: int) -> tuple[Callable[[float, int], float], Callable[[float, int], float]]:
    """The score of a log-probability at a length, and the best score that can come of it at greater lengths."""
    if not _is_finite(length_penalty):
        raise ArgumentError(f"beam_search: length_penalty must be a finite number, got {length_penalty!r}")
    try:
        float(max(steps, 1)) ** abs(length_penalty)
    except OverflowError:
        raise ArgumentError(
            f"beam_search: length_penalty={length_penalty} is too large: {steps}**{abs(length_penalty)} overflows"
        ) from None

    def score(log_probability: float, length: int) -> float:
        return log_probability / float(length) ** length_penalty

    def reachable(log_probability: float, length: int) -> float:
        # More tokens only lower the log-probability. If none did, the score would rise or fall all the way with the
        # length: it is best at one end.
        return max(score(log_probability, n) for n in (min(length + 1, steps), steps))

    return score, reachable


def _best(hypotheses: list[Hypothesis], width: int) -> list[Hypothesis]:
    return sorted(hypotheses, key=lambda found: -found.score)[:width]


def _integers(function: str, name: str, given: Any) -> list[int]:
    """A tensor, an array or a list of integers as a list."""
    values = given.tolist() if hasattr(given, "tolist") else given
    try:
        found = [index(value) for value in values]
    except TypeError:
        found = None
    if found is None or any(isinstance(value, bool) for value in values):
        raise DtypeError(f"{function}: {name} must hold integers in one row, got {given}")
    return found


def _is_finite(value: Any) -> bool:
    number = backends.as_number(value)
    return isinstance(number, (int, float)) and not isinstance(number, bool) and isfinite(number)
