"""Data: characters as integers, long sequences in windows, and tasks that recurrent networks are measured on."""

from . import tasks
from .sequences import windows
from .text import CharVocabulary, ContinuousBatches
