"""Layers that treat each position alike: Linear, Embedding, LayerNorm, Dropout, and their Sequential."""

from __future__ import annotations

from typing import Any

from .. import functional, ops
from ..errors import ArgumentError, DtypeError, ShapeError
from ..tensor import Tensor
from . import init
from .module import Module, Parameter


class Linear(Module):
    """y = x W^T + b, for x (..., input_size) and y (..., output_size).

    weight (output_size, input_size) and bias (output_size,) begin uniform in +-1 / sqrt(input_size), as PyTorch's.
    """

    def __init__(self, input_size: int, output_size: int, *, bias: bool = True):
        self.input_size, self.output_size = input_size, output_size
        bound = input_size**-0.5 if input_size else 0.0
        self.weight = Parameter(init.uniform((output_size, input_size), bound))
        self.bias = Parameter(init.uniform((output_size,), bound)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(x, tuple):
            raise DtypeError(
                f"Linear: expected a tensor, got a tuple of {len(x)}; a recurrent network returns (outs, state): "
                "outs, _ = net(xs)"
            )
        if x.shape[-1:] != (self.input_size,):
            raise ShapeError(f"Linear: expected x of shape (..., {self.input_size}), got {x.shape}")
        return ops.linear(x, self.weight, self.bias)


class Embedding(Module):
    """The vector of each token: integers (...) in [0, count) to (..., size). weight (count, size) begins normal."""

    def __init__(self, count: int, size: int):
        self.weight = Parameter(init.normal((count, size)))

    def forward(self, indices: Any) -> Tensor:
        return functional.embedding(self.weight, indices)


class LayerNorm(Module):
    """(x - mean) / sqrt(variance + eps) * weight + bias, over the last axis. Ba et al. 2016."""

    def __init__(self, size: int, *, eps: float = 1e-5):
        self.size, self.eps = size, eps
        self.weight, self.bias = Parameter(init.ones((size,))), Parameter(init.zeros((size,)))

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-1:] != (self.size,):
            raise ShapeError(f"LayerNorm: expected x of shape (..., {self.size}), got {x.shape}")
        centred = x - x.mean(axis=-1, keepdims=True)
        variance = (centred * centred).mean(axis=-1, keepdims=True)
        return centred / ops.sqrt(variance + self.eps) * self.weight + self.bias


class Dropout(Module):
    """In training, each element 0 with probability p and the others divided by 1 - p. Srivastava et al. 2014."""

    def __init__(self, p: float = 0.5):
        if not 0 <= p <= 1:
            raise ArgumentError(f"Dropout: p is a probability, got {p}")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        return functional.dropout(x, self.p, training=self.training)


class Sequential(Module):
    """Modules (or functions of one tensor) one after another."""

    def __init__(self, *steps: Any):
        self.steps = list(steps)

    def forward(self, x: Any) -> Any:
        for step in self.steps:
            x = step(x)
        return x
