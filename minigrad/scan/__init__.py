"""The compiled loop: a step of plain operations, run over a sequence as fast as one written by hand.

record      one step, run on symbols, writes down its program, forward; the backward pass writes down its own
symbols     what a symbol is, and the namespace that writes instructions: the recorder is one more array library
rewrite     better ways to write an instruction, tried as it is written down
siblings    one instruction for several that do the same to neighbouring parts
divide      before, loop, after; sums over time as single products
place       where each value lives: a slot per step, the next state, a part of something, a buffer used again
emit        straight-line Python; numpy_code has the lines of each instruction
workspace   the buffers, lent for the time of a call
program     all of this together, for one step
surroundings  what a step closes over: when two steps have one program
compiled    `scan`: the cache, a call, its node in the graph
eager       the loop as its definition
explain     a program as a person would write it
"""

from .cache import cache_info, clear_cache
from .compiled import explain_scan, scan

setattr(scan, "cache_info", cache_info)  # noqa: B010 `mg.scan` is the function, which hides this package's names
setattr(scan, "clear_cache", clear_cache)  # noqa: B010
