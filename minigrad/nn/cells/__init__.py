"""Recurrent cells, one file a family, and modifiers, which wrap any cell."""

from .cell import Cell
from .clockwork import ClockworkCell
from .echo_state import EchoStateCell
from .elman import ElmanCell
from .gru import GRUCell, SimplifiedGRUCell
from .jordan import JordanCell, Teacher
from .lstm import LSTMCell
from .modifiers import Modifier, Residual, VariationalDropout, Zoneout
from .scrn import SCRNCell
