"""SGD, RMSprop, Adam and AdamW, each as its equations. p is a parameter, g its gradient, r the learning rate."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .. import backends
from ..errors import ArgumentError
from ..tensor import Tensor
from .optimizer import Optimizer, Rate


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum m if asked for (Polyak 1964), or Nesterov's (Sutskever et al. 2013).

    v = m v + g;    p = p - r v, or with nesterov p = p - r (g + m v)
    """

    def __init__(self, parameters: Iterable[Tensor], lr: Rate, *, momentum: float = 0.0, nesterov: bool = False):
        super().__init__(parameters, lr)
        _check("SGD", momentum=momentum)
        if nesterov and not momentum:
            raise ArgumentError("SGD: nesterov needs a momentum")
        self.momentum, self.nesterov = float(momentum), nesterov
        self.slots = ("velocity",) if self.momentum else ()

    def update(self, p: Any, g: Any, rate: float, running: dict[str, Any], t: int) -> Any:
        if not self.momentum:
            return p - rate * g
        running["velocity"] = v = self.momentum * running["velocity"] + g
        return p - rate * (g + self.momentum * v if self.nesterov else v)


class RMSprop(Optimizer):
    """Steps in units of the root mean square of recent gradients (Hinton, lecture 6e, 2012).

    s = a s + (1 - a) g^2;    p = p - r g / (sqrt(s) + eps)
    """

    slots = ("mean_square",)

    def __init__(self, parameters: Iterable[Tensor], lr: Rate = 1e-2, *, alpha: float = 0.99, eps: float = 1e-8):
        super().__init__(parameters, lr)
        _check("RMSprop", alpha=alpha)
        self.alpha, self.eps = float(alpha), float(eps)

    def update(self, p: Any, g: Any, rate: float, running: dict[str, Any], t: int) -> Any:
        running["mean_square"] = s = self.alpha * running["mean_square"] + (1 - self.alpha) * (g * g)
        return p - rate * g / (backends.namespace_of(g).sqrt(s) + self.eps)


class Adam(Optimizer):
    """Kingma and Ba 2015, algorithm 1, at step t: the t-th at which the parameter had a gradient.

    m = b1 m + (1 - b1) g;    s = b2 s + (1 - b2) g^2
    p = p - r (m / (1 - b1^t)) / (sqrt(s / (1 - b2^t)) + eps)
    """

    slots = ("mean", "mean_square")

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: Rate = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ):
        super().__init__(parameters, lr)
        _check(type(self).__name__, beta1=betas[0], beta2=betas[1])
        self.betas, self.eps = (float(betas[0]), float(betas[1])), float(eps)

    def update(self, p: Any, g: Any, rate: float, running: dict[str, Any], t: int) -> Any:
        b1, b2 = self.betas
        running["mean"] = m = b1 * running["mean"] + (1 - b1) * g
        running["mean_square"] = s = b2 * running["mean_square"] + (1 - b2) * (g * g)
        root = backends.namespace_of(g).sqrt(s * (1 / (1 - b2**t))) + self.eps
        return p - (rate / (1 - b1**t)) * m / root


class AdamW(Adam):
    """Adam with decoupled weight decay w (Loshchilov and Hutter 2019): p = p - r w p, and then Adam's step."""

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: Rate = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ):
        super().__init__(parameters, lr, betas=betas, eps=eps)
        self.weight_decay = float(weight_decay)

    def update(self, p: Any, g: Any, rate: float, running: dict[str, Any], t: int) -> Any:
        return super().update(p * (1 - rate * self.weight_decay), g, rate, running, t)


def _check(op: str, **fractions: float) -> None:
    for name, value in fractions.items():
        if not 0 <= value < 1:
            raise ArgumentError(f"{op}: {name} must be in [0, 1), got {value}")
