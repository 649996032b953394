"""Compositions of ops: softmax, losses, dropout, embedding. Each reads as its formula; its gradient falls out."""

from __future__ import annotations

from typing import Any

from . import backends, ops, random
from .errors import ArgumentError, DtypeError, ShapeError
from .tensor import Tensor


def softmax(x: Tensor, axis: int = -1) -> Tensor:
    """exp(x) / sum(exp(x)) along an axis: positive, and of sum 1.

    >>> import minigrad as mg
    >>> mg.softmax(mg.tensor([1000.0, 1000.0]))
    tensor([0.5, 0.5])
    """
    e = ops.exp(_shifted(_input("softmax", x), axis))
    return e / ops.sum(e, axis=axis, keepdims=True)


def log_softmax(x: Tensor, axis: int = -1) -> Tensor:
    """log(softmax(x)) = x - logsumexp(x) along an axis, finite however large x is."""
    z = _shifted(_input("log_softmax", x), axis)
    return z - ops.logsumexp(z, axis=axis, keepdims=True)


def _shifted(x: Tensor, axis: int) -> Tensor:
    """x with its largest element along the axis moved to 0: softmax does not change, and large numbers keep digits."""
    return x - ops.max(x.detach(), axis=axis, keepdims=True)


def _input(op: str, x: Any) -> Tensor:
    """What a function is given, as a tensor. Raises DtypeError for what is no tensor and no array."""
    if isinstance(x, Tensor):
        return x
    if not backends.is_array(x):
        raise DtypeError(f"{op}: expected a tensor, got {type(x).__name__}; mg.tensor makes one")
    return Tensor(backends.as_array(x, None, backends.namespace_of(x)))


def _tensor(data: Any, like: Tensor, dtype: Any) -> Tensor:
    """Targets or indices as a tensor. Numbers and lists become one on the backend of `like`."""
    if isinstance(data, Tensor):
        return data
    return Tensor(backends.as_array(data, dtype, None if backends.is_array(data) else backends.namespace_of(like.data)))


def _classes(targets: Any, like: Tensor) -> Tensor:
    """Targets as a tensor: lists of whole numbers as integers, others as probabilities."""
    if not isinstance(targets, Tensor) and not backends.is_array(targets):
        try:
            return _tensor(targets, like, backends.int64)
        except ArgumentError:
            pass
    return _tensor(targets, like, None)


def _reduce(op: str, losses: Tensor, reduction: str, count: Any = None) -> Tensor:
    if reduction == "none":
        return losses
    if reduction == "sum":
        return ops.sum(losses)
    if reduction == "mean":
        return ops.mean(losses) if count is None else ops.sum(losses) / count
    raise ArgumentError(f"{op}: reduction must be 'mean', 'sum' or 'none', not {reduction!r}")


def cross_entropy(logits: Tensor, targets: Any, *, ignore_index: int | None = None, reduction: str = "mean") -> Tensor:
    """-log softmax(logits)[target], in nats: the surprise at the right class.

    logits: (..., C), before the softmax; C classes.
    targets: integers (...) in [0, C), the right class; or floats (..., C), its probabilities, where 0 log 0 = 0.
    ignore_index: a target that does not count, such as that of padding: its loss and gradient are 0, and the mean is
        over the others (0 if there are none).
    reduction: "mean", "sum" or "none", which gives the losses (...).

    The gradient by the logits is softmax(logits) - one_hot(target). Raises ShapeError, or OutOfRangeError for a
    target that is no class.

    >>> import minigrad as mg
    >>> mg.cross_entropy(mg.tensor([[0.0, 0.0], [100.0, 0.0]]), mg.tensor([1, 0], dtype=mg.int64), reduction="none")
    tensor([0.6931472, 0.       ])
    """
    logits = _input("cross_entropy", logits)
    targets = _classes(targets, logits)
    backends.require_same("cross_entropy", [logits.data, targets.data])
    classes = logits.shape[-1] if logits.shape else 0
    if backends.is_floating(targets.data):
        if targets.shape != logits.shape:
            raise ShapeError(
                f"cross_entropy: probabilities {targets.shape} for logits {logits.shape}; numbers of classes are "
                "integers, dtype=mg.int64"
            )
        # 0 log 0 = 0 for the logits -inf of an impossible class too
        log_p = log_softmax(logits)
        terms = targets * ops.where((targets == 0) & ~ops.isfinite(log_p), 0.0, log_p)
        return _reduce("cross_entropy", -ops.sum(terms, axis=-1), reduction)
    if not logits.shape or targets.shape != logits.shape[:-1]:
        raise ShapeError(
            f"cross_entropy: targets {targets.shape} for logits {logits.shape}: they must have the logits' shape "
            "without the last axis, which holds the classes"
        )
    counts = None if ignore_index is None else targets != ignore_index
    classes_of = targets if counts is None else ops.where(counts, targets, 0)
    backends.namespace_of(classes_of.data).require_range(classes_of.data, classes, "cross_entropy: target")
    z = _shifted(logits, -1)
    chosen = ops.take_along_axis(z, ops.expand_dims(classes_of, axis=-1), axis=-1)
    losses = ops.logsumexp(z, axis=-1) - ops.squeeze(chosen, -1)
    if counts is None:
        return _reduce("cross_entropy", losses, reduction)
    losses = ops.where(counts, losses, 0.0)
    return _reduce("cross_entropy", losses, reduction, ops.maximum(ops.sum(counts.astype(losses.dtype)), 1))


def binary_cross_entropy_with_logits(logits: Tensor, targets: Any, *, reduction: str = "mean") -> Tensor:
    """-t log(s) - (1 - t) log(1 - s) with s = sigmoid(logit), in nats, finite however large the logit.

    logits, targets: of the same shape; targets between 0 and 1. reduction: "mean", "sum" or "none".
    """
    logits = _input("binary_cross_entropy_with_logits", logits)
    targets = _tensor(targets, logits, logits.dtype)
    if targets.shape != logits.shape:
        raise ShapeError(f"binary_cross_entropy_with_logits: targets {targets.shape} for logits {logits.shape}")
    return _reduce("binary_cross_entropy_with_logits", ops.softplus(logits) - targets * logits, reduction)


def mse(predictions: Tensor, targets: Any, *, reduction: str = "mean") -> Tensor:
    """(prediction - target)**2. reduction: "mean", "sum" or "none". Raises ShapeError if the shapes differ."""
    predictions = _input("mse", predictions)
    targets = _tensor(targets, predictions, predictions.dtype)
    if targets.shape != predictions.shape:
        raise ShapeError(f"mse: targets {targets.shape} for predictions {predictions.shape}")
    return _reduce("mse", (predictions - targets) ** 2, reduction)


def dropout(x: Tensor, p: float, *, training: bool = True) -> Tensor:
    """Each element 0 with probability p, else divided by 1 - p, which keeps the mean; x itself if not training.

    Srivastava et al. 2014. The noise comes from `mg.random`. Raises ArgumentError unless 0 <= p <= 1.
    """
    if not 0 <= p <= 1:
        raise ArgumentError(f"dropout: p is a probability, got {p}")
    x = _input("dropout", x)
    if not training or p == 0:
        return x
    return ops.where(random.bernoulli(x, 1 - p), x / (1 - p), 0.0) if p < 1 else x * 0


def one_hot(indices: Any, size: int, *, dtype: Any = backends.float32) -> Tensor:
    """Integers (...) in [0, size) as vectors (..., size) that are 1 at the index and 0 elsewhere.

    >>> import minigrad as mg
    >>> mg.one_hot([2, 0], 3)
    tensor([[0., 0., 1.],
            [1., 0., 0.]])
    """
    if not isinstance(indices, Tensor):
        indices = Tensor(backends.as_array(indices, None if backends.is_array(indices) else backends.int64))
    if backends.kind_of(indices.data) != "integer":
        raise DtypeError(f"one_hot: indices are integers, got {indices.dtype}")
    backends.namespace_of(indices.data).require_range(indices.data, size, "one_hot: index")
    classes = ops.arange(size, dtype=indices.dtype, backend=indices.backend)
    return ops.astype(ops.expand_dims(indices, axis=-1) == classes, dtype)


def embedding(weight: Tensor, indices: Any) -> Tensor:
    """The rows of weight (V, E) at integers (...) in [0, V): (..., E). It equals one_hot(indices, V) @ weight.

    Raises OutOfRangeError for an index that is no row, DtypeError for indices that are not integers.
    """
    indices = _tensor(indices, weight, None if backends.is_array(indices) else backends.int64)
    if backends.kind_of(indices.data) != "integer":
        raise DtypeError(f"embedding: indices are integers, got {indices.dtype}; .astype(mg.int64) makes them so")
    backends.namespace_of(indices.data).require_range(indices.data, weight.shape[0], "embedding: index")
    return ops.take(weight, indices, axis=0)
