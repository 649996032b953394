"""Networks: modules, layers, recurrent cells and what runs them over sequences."""

from . import init
from .cells import Cell, ElmanCell, GRUCell, LSTMCell, Modifier, Residual, VariationalDropout, Zoneout
from .layers import Dropout, Embedding, LayerNorm, Linear, Sequential
from .module import Module, Parameter
from .recurrent import Recurrent, detach
