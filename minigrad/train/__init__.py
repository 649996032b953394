"""Training: the one loop, with progress, validation, early stopping, checkpoints, a log, and a way to go on."""

from .checkpoint import BEST, LAST, LOG, read_about, unfinished
from .loop import evaluate, fit
from .position import Epoch, History
from .progress import Measure, read_log
