"""Data: files of text, numbers and sound; tokens as integers; examples in batches and long sequences in windows; tasks.

Files are read by `read_text`, `read_tagged`, `read_labelled`, `read_pairs`, `read_column` and `read_wav`; `Vocabulary`
and `CharVocabulary` number tokens; `split`, `pad` and `Batches` make batches of examples, `Drawn` of a process,
`windows` and `ContinuousBatches` of one long sequence; `tasks` are what recurrent networks are measured on.
"""

from . import tasks
from .batches import Batches, Drawn, pad, split
from .files import (
    Labelled,
    Pair,
    Tagged,
    read_column,
    read_labelled,
    read_pairs,
    read_tagged,
    read_text,
    read_wav,
    write_wav,
)
from .sequences import windows
from .text import CharVocabulary, ContinuousBatches
from .vocabulary import Vocabulary, letter_trigrams
