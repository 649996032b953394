"""Data: vocabularies and batches."""

from .text import CharVocabulary, ContinuousBatches
