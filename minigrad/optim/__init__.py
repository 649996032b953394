"""Optimisers, learning rate schedules, clipping."""

from .clipping import clip_by_norm, clip_by_value
from .optimizer import Optimizer
from .optimizers import SGD, Adam, AdamW, RMSprop
from .schedules import cosine, exponential, inverse_sigmoid, linear, warmup
