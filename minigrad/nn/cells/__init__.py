"""Recurrent cells, one file a family."""

from .cell import Cell
from .elman import ElmanCell
from .gru import GRUCell
from .lstm import LSTMCell
