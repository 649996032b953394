"""Networks: modules, layers, recurrent cells and what runs them over sequences."""

from . import init
from .attention import (
    AdditiveAttention,
    Attention,
    AttentionCell,
    AttentionPooling,
    DotAttention,
    GeneralAttention,
    Memory,
)
from .cells import (
    Cell,
    ClockworkCell,
    EchoStateCell,
    ElmanCell,
    GRUCell,
    JordanCell,
    LSTMCell,
    Modifier,
    Residual,
    SCRNCell,
    SimplifiedGRUCell,
    Teacher,
    VariationalDropout,
    Zoneout,
)
from .decoding import beam_search, greedy, log_probability, sample
from .echo_state import EchoStateNetwork
from .encoder_decoder import EncoderDecoder
from .exchange import GRU, LSTM, RNN
from .layers import Dropout, Embedding, LayerNorm, Linear, Sequential
from .module import Module, Parameter
from .network import Network
from .recurrent import Recurrent, detach
from .topologies import Bidirectional, OneToMany, Stacked
