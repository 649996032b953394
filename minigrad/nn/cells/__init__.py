"""Recurrent cells, one file a family, and modifiers, which wrap any cell."""

from .cell import Cell
from .elman import ElmanCell
from .gru import GRUCell
from .lstm import LSTMCell
from .modifiers import Modifier, Residual, VariationalDropout, Zoneout
