"""Emission: a placed pass as straight-line Python on NumPy.

Views are made once, when a workspace is laid out; so are the lists of them that the loop runs over. A call then only
computes. Names: `V12` is value 12 at all steps, `K12` in the steps of a block, `v12` in one step or at every step
alike, `S12` a state at all steps and one more.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .divide import Pass, base
from .numpy_code import Lines
from .place import CALLER, KEPT, Home, Placement
from .symbols import FIXED, VIEWS, Instruction, Symbol
from .totals import Sums, operands

# Where the names that a call uses come from: from itself, or from the views of a workspace, made once.
CALL, KEEPS, LENT, SAVED = "call", "kept", "temporary", "saved"


@dataclass
class Code:
    """A pass, written.

    run(T, block, given, inits, views of kept, of temporary, of saved) -> (wanted, finals, totals, saved). given: the
    arrays of `inputs`. inits: of the carried and then the shifted states. views: functions (T, block, arrays) that
    make what `run` needs of a workspace, or of the values that the forward pass saved; `arrays` has the slots, shapes,
    dtypes and lengths of these arrays, and where in the slot they lie: see `place.Home`.
    """

    run: Callable[..., Any]
    source: str
    inputs: list[Symbol]
    saved: list[Symbol]  # those that are given in a workspace of the forward pass
    placement: Placement
    views: dict[str, Callable[..., Any]]
    arrays: dict[str, list[tuple[int, tuple[int, ...], Any, str, int, int]]]
    saves: dict[Symbol, str]  # where each value that is kept for the backward pass lies
    block_bytes: int  # of one step of a block; 0 if there are no blocks


class Writer:
    """Writes one pass."""

    def __init__(
        self,
        divided: Pass,
        keep: Sequence[Symbol],
        checks: Sequence[Any],
        backward_in_time: bool,
        saved: Sequence[Symbol],
    ):
        self.d, self.keep, self.checks, self.backward_in_time = divided, list(keep), checks, backward_in_time
        self.placement = Placement(divided, keep)
        self.homes = self.placement.homes
        self.lines = Lines()
        self.names: dict[Symbol, str] = {}  # of values at all steps, and of what is FIXED
        self.step: dict[Symbol, str] = {}  # of values within a step
        self.source: dict[str, str] = {}  # where names come from
        self.made: dict[str, list[str]] = {CALL: [], KEEPS: [], LENT: [], SAVED: []}
        self.arrays: dict[str, list[Any]] = {KEEPS: [], LENT: []}
        self.array_names: dict[str, list[str]] = {KEEPS: [], LENT: [], SAVED: []}
        self.each_step: set[Symbol] = set()  # computed anew in each step, without a home
        self.run_over: dict[str, tuple[str, Symbol]] = {}  # the loop's variables: the array each one runs over
        self.copies: list[str] = []  # factors of products, to be let go after the loop
        self._samples: dict[Symbol, Any] = {}
        states = {old for old, _ in [*divided.carried, *divided.shifted]}
        self.inputs = [s for s in divided.given if s not in states]
        self.saved = [s for s in self.inputs if s in set(saved)]
        for s in self.inputs:
            self.name_all(s, f"V{s.number}", SAVED if s in self.saved else CALL)
        self.array_names[SAVED] = [self.names[s] for s in self.saved]

    # Names

    def name_all(self, s: Symbol, name: str, source: str) -> str:
        self.names[s], self.source[name] = name, source
        return name

    def array(self, name: str, home: Home, s: Symbol, length: str) -> str:
        """Name an array of a workspace."""
        source = KEEPS if home.owner == KEPT else LENT
        self.arrays[source].append((home.slot, s.shape, s.dtype, length, home.within, home.apart))
        self.array_names[source].append(name)
        self.source[name] = source
        return name

    def home_all(self, s: Symbol) -> str:
        """The name of the array that s has at all steps, which is made here."""
        home = self.homes[s]
        name = f"V{s.number}"
        if home.owner == CALLER:
            self.made[CALL].append(f"{name} = {self.empty('T', s)}")
            return self.name_all(s, name, CALL)
        self.array(name, home, s, "T")
        return self.name_all(s, name, self.source[name])

    def empty(self, steps: str, s: Symbol) -> str:
        return f"empty(({steps}, *{self.lines.constant(s.shape)}), {self.lines.constant(s.dtype)})"

    def all(self, value: Any) -> str:
        """The name of a value at all steps, or of what is FIXED; a number as it is."""
        return self.names[value] if isinstance(value, Symbol) else repr(value)

    def moving(self, i: Instruction) -> list[bool]:
        return [isinstance(s, Symbol) and self.d.levels[s] != FIXED for s in i.inputs]

    # Views

    def lies(self, s: Symbol) -> Any:
        """An array without memory that lies as the values of s do; None if s is no view but a copy."""
        if s not in self._samples:
            i, home = s.instruction, self.homes.get(s)
            if home is not None and home.inside is not None:
                whole, start = home.inside
                axis = whole.instruction.static["axis"] % whole.ndim  # type: ignore[union-attr]
                columns = (slice(None),) * axis + (slice(start, start + s.shape[axis]),)
                self._samples[s] = self.lies(whole)[columns]
            elif i is None or i.name not in VIEWS or s in self.d.given:
                strides = np.cumprod((s.dtype.itemsize, *s.shape[:0:-1]))[::-1] if s.ndim else ()
                self._samples[s] = np.lib.stride_tricks.as_strided(np.empty(1, s.dtype), s.shape, tuple(strides))
            else:
                self._samples.update(zip(i.outputs, self._views_of(i, self.lies(i.inputs[0]))))
        return self._samples[s]

    def _views_of(self, i: Instruction, x: Any) -> list[Any]:
        if x is None:
            return [None] * len(i.outputs)
        if i.name in ("reshape", "expand_dims"):
            try:
                return [np.reshape(x, i.outputs[0].shape, copy=False)]
            except ValueError:
                return [None]
        texts = self.lines.views(i, "x", None)
        return [eval(text, dict(self.lines.names), {"x": x}) for text in texts]

    def is_view(self, i: Instruction) -> bool:
        return all(self.lies(s) is not None for s in i.outputs)

    def view_all(self, i: Instruction, body: list[str]) -> None:
        """Views at all steps, or of what is FIXED."""
        (x,) = i.inputs
        fixed = self.d.levels[x] == FIXED
        source = self.source[self.names[x]] if self.is_view(i) else CALL
        for s, text in zip(i.outputs, self.lines.views(i, self.names[x], None if fixed else "T")):
            name = self.name_all(s, f"V{s.number}", source)
            (body if source == CALL else self.made[source]).append(f"{name} = {text}")

    # All steps at once

    def compute_all(self, i: Instruction, body: list[str]) -> None:
        """The line of an instruction on all steps; for what is FIXED, once."""
        if i.name in VIEWS:
            return self.view_all(i, body)
        (s,) = i.outputs
        fixed = self.d.levels[s] == FIXED
        lead = None if fixed else "T"
        args, moving = [self.all(x) for x in i.inputs], self.moving(i)
        line = self.lines.into(i, args, moving, lead, f"V{s.number}", True)
        if not line:
            body.append(f"{self.name_all(s, f'V{s.number}', CALL)} = {self.lines.value(i, args, moving, lead)}")
        elif fixed or s not in self.homes:
            shape = f"empty({self.lines.constant(s.shape)}, {self.lines.constant(s.dtype)})"
            body.append(f"{self.name_all(s, f'V{s.number}', CALL)} = {shape if fixed else self.empty('T', s)}")
            body.append(line)
        else:
            self.home_all(s)
            body.append(line)
        return None

    def shift(self, old: Symbol, new: Symbol, body: list[str]) -> None:
        """A state that is known without the loop: before step t it is what it was after the step before."""
        k = len(self.d.carried) + self.d.shifted.index((old, new))
        first, second, begin, end = self.directions()
        name = f"S{old.number}"
        body += [
            f"{name} = {self.empty('T + 1', old)}",
            f"{name}[{begin}] = inits[{k}]",
            f"{name}[{second}] = {self.all(new)}",
            f"{self.name_all(old, f'V{old.number}', CALL)} = {name}[{first}]",
        ]
        self.finals[old] = f"{name}[{end}, ...].copy()"

    def directions(self) -> tuple[str, str, str, str]:
        """In an array of T + 1 states: those before each step, those after it, the first of all and the last."""
        return ("1:", ":-1", "-1", "0") if self.backward_in_time else (":-1", "1:", "0", "-1")

    # The loop

    def now(self, value: Any) -> str:
        """The name of a value within a step."""
        if not isinstance(value, Symbol):
            return repr(value)
        if value not in self.step:
            if self.d.levels[value] == FIXED:
                return self.names[value]
            name = self.step[value] = f"v{value.number}"
            self.run_over[name] = (f"K{value.number}" if value in self.tiled else self.names[value]), value
        return self.step[value]

    def write_loop(self) -> list[str]:
        """The lines of the loop, and of the blocks that it is done in."""
        d = self.d
        copies = self._begin_states()
        for i in d.loop:
            for s in i.outputs:
                home = self.homes.get(s)
                if i.name not in VIEWS and home is not None and s not in self.names and s not in self.step:
                    self._name_home(s, home)
        self.tiled: set[Symbol] = set()
        tile = self._tile()
        body: list[str] = []
        for i in d.loop:
            self._compute_step(i, body)
        for name, old, new in copies:
            body.append(f"copyto(n{old.number}, {self.now(new)})")
            self.run_over[f"n{old.number}"] = name, old
        return self._in_blocks(tile, body)

    def _begin_states(self) -> list[tuple[str, Symbol, Symbol]]:
        """The states' arrays and first values. Answers with those that have to be copied, and where to."""
        copies = []
        first, second, begin, end = self.directions()
        for n, (old, new) in enumerate(self.d.carried):
            home = self.homes[old]
            if home.span == "one":
                name = self.step[old] = self.step[new] = self.array(f"v{old.number}", home, old, "1")
                self.made[CALL].append(f"{name}[...] = inits[{n}]")
                self.finals[old] = f"{name}.copy()"
                continue
            name = f"S{old.number}"
            if home.owner == CALLER:
                self.source[name] = CALL
                self.made[CALL].append(f"{name} = {self.empty('T + 1', old)}")
            else:
                self.array(name, home, old, "T1")
            source = self.source[name]
            self.made[CALL].append(f"{name}[{begin}] = inits[{n}]")
            self.finals[old] = f"{name}[{end}, ...].copy()"
            self.made[source].append(f"{self.name_all(old, f'V{old.number}', source)} = {name}[{first}]")
            direct = old in self.placement.direct
            after = self.name_all(new, f"V{new.number}", source) if direct else f"N{old.number}"
            self.source[after] = source
            self.made[source].append(f"{after} = {name}[{second}]")
            if not direct:
                copies.append((after, old, new))
        return copies

    def _name_home(self, s: Symbol, home: Home) -> None:
        """The array, or the part of an array, where a value of the loop is written."""
        whole, start = home.inside or (s, 0)
        if home.span == "one":
            if whole not in self.step:
                self.step[whole] = self.array(f"v{whole.number}", home, whole, "1")
        elif whole not in self.names:
            self.home_all(whole)
        if whole is not s:
            axis = whole.instruction.static["axis"] % whole.ndim  # type: ignore[union-attr]
            index = ":, " * axis + f"{start}:{start + s.shape[axis]}"
            if home.span == "one":
                name = self.step[s] = f"v{s.number}"
                self.source[name] = LENT
                self.made[LENT].append(f"{name} = {self.step[whole]}[{index}]")
            else:
                source = self.source[self.names[whole]]
                text = f"{self.name_all(s, f'V{s.number}', source)} = {self.names[whole]}[:, {index}]"
                self.made[source].append(text)

    def _compute_step(self, i: Instruction, body: list[str]) -> None:
        x = i.inputs[0]
        if i.name in VIEWS:
            if self.is_view(i) and x in self.names:
                self.view_all(i, self.made[CALL])
                return
            still = self.is_view(i) and x in self.step and self.step[x] not in self.run_over and x not in self.each_step
            for s, text in zip(i.outputs, self.lines.views(i, self.now(x), None)):
                self.step[s] = f"v{s.number}"
                (self.made[LENT] if still else body).append(f"v{s.number} = {text}")
                if still:
                    self.source[f"v{s.number}"] = LENT
                else:
                    self.each_step.add(s)
            return
        (s,) = i.outputs
        if i.name == "concat":
            body += self._concat(i)
            return
        args, still_all = [self.now(value) for value in i.inputs], [False] * len(i.inputs)
        if i.name == "matmul":
            args = self._contiguous(i, args)
        if s in self.homes:
            contiguous = self.homes[s].inside is None
            body.append(self.lines.into(i, args, still_all, None, self.now(s), contiguous))
            return
        self.step[s] = f"v{s.number}"
        self.each_step.add(s)
        body.append(f"v{s.number} = {self.lines.value(i, args, still_all, None)}")
        if s in self.d.stored:
            name = self.name_all(s, f"V{s.number}", CALL)
            self.made[CALL].append(f"{name} = {self.empty('T', s)}")
            self.run_over[f"w{s.number}"] = name, s
            body.append(f"w{s.number}[...] = v{s.number}")

    def _contiguous(self, i: Instruction, args: list[str]) -> list[str]:
        """The factors of a product in the loop, a FIXED one as BLAS takes it best."""
        b = i.inputs[1]
        if self.d.levels[b] != FIXED or b.ndim != 2 or not b.size:
            return args
        line = f"C{b.number} = contiguous({args[1]}, T)"
        if line not in self.made[CALL]:
            self.made[CALL].append(line)
            self.copies.append(f"C{b.number}")
        return [args[0], f"C{b.number}"]

    def _concat(self, i: Instruction) -> list[str]:
        """Copies of those parts that are not written in place."""
        (s,) = i.outputs
        start, axis, lines = 0, i.static["axis"] % s.ndim, []
        for part in i.inputs:
            if self.placement.owner.get(part, (None, 0))[0] is not s:
                index = ":, " * axis + f"{start}:{start + part.shape[axis]}"
                lines.append(f"copyto({self.now(s)}[{index}], {self.now(part)})")
            start += part.shape[axis]
        return lines

    def _tile(self) -> list[str]:
        """The lines that compute, for a block of steps, what only the loop needs."""
        lines: list[str] = []
        sliced: set[str] = set()

        def block(x: Any, moves: bool) -> str:
            if not moves:
                return self.all(x)
            if x in self.tiled:
                return f"B{x.number}"
            if f"B{x.number}" not in sliced:
                sliced.add(f"B{x.number}")
                lines.append(f"B{x.number} = {self.names[x]}[lo:hi]")
            return f"B{x.number}"

        for i in self.placement.tile:
            x = i.inputs[0]
            if i.name in VIEWS and x not in self.tiled:
                self.view_all(i, self.made[CALL])
            elif i.name in VIEWS and self.is_view(i):
                for s, text in zip(i.outputs, self.lines.views(i, f"K{x.number}", "block")):
                    self.tiled.add(s)
                    self.made[LENT].append(f"K{s.number} = {text}")
                    self.source[f"K{s.number}"] = LENT
                    lines.append(f"B{s.number} = K{s.number}[: hi - lo]")
            elif i.name in VIEWS:
                for s, text in zip(i.outputs, self.lines.views(i, f"B{x.number}", "(hi - lo)")):
                    self.tiled.add(s)
                    self.source[f"K{s.number}"] = CALL
                    lines.append(f"K{s.number} = B{s.number} = {text}")
            else:
                moving = self.moving(i)
                args = [block(x, moves) for x, moves in zip(i.inputs, moving)]
                (s,) = i.outputs
                self.tiled.add(s)
                self.array(f"K{s.number}", self.homes[s], s, "block")
                lines.append(f"B{s.number} = K{s.number}[: hi - lo]")
                lines.append(self.lines.into(i, args, moving, "hi - lo", f"B{s.number}", True))
        return lines

    def _in_blocks(self, tile: list[str], body: list[str]) -> list[str]:
        """The loop over blocks, and within it the loop over steps: from the last to the first if time runs backward.

        Arrays of a workspace are run over by lists of their views, which are made once.
        """
        if self.backward_in_time:
            lines = ["for hi in range(T, 0, -block):", "    lo = max(hi - block, 0)"]
        else:
            lines = ["for lo in range(0, T, block):", "    hi = min(lo + block, T)"]
        lines += [f"    {line}" for line in tile]
        turn = "[::-1]" if self.backward_in_time else ""
        targets, runs = [], []
        for kind in (KEEPS, LENT, SAVED, "block", CALL):
            names = [
                n for n, (array, _) in self.run_over.items()
                if kind == ("block" if array[0] == "K" and self.source[array] == LENT else self.source[array])
            ]  # fmt: skip
            if names and kind == CALL:
                targets += names
                for n in names:
                    array, s = self.run_over[n]
                    text = f"{array}{'[: hi - lo]' if array[0] == 'K' else '[lo:hi]'}{turn}"
                    runs.append(text if s.shape else f"zero_d({text})")
            elif names:
                steps = f"steps_{kind}"
                source = LENT if kind == "block" else kind
                arrays = [
                    self.run_over[n][0] if self.run_over[n][1].shape else f"zero_d({self.run_over[n][0]})"
                    for n in names
                ]
                self.made[source].append(f"{steps} = list(zip({', '.join(arrays)}))")
                self.source[steps] = source
                targets.append(f"({', '.join(names)},)")
                runs.append(f"{steps}{'[: hi - lo]' if kind == 'block' else '[lo:hi]'}{turn}")
        if runs:
            zipped = f"zip({', '.join(runs)})" if len(runs) > 1 else runs[0]
            lines.append(f"    for {', '.join(targets)} in {zipped}:")
        else:
            lines.append("    for _ in range(lo, hi):")
        return lines + [f"        {line}" for line in body or ["pass"]]

    # The whole

    def write(self) -> Code:
        d = self.d
        self.finals: dict[Symbol, str] = {}
        call = self.made[CALL]
        for s, size, what in self.checks:
            if s in self.names:
                call.append(f"check({self.names[s]}, {size}, {what!r})")
        for i in d.fixed:
            self.compute_all(i, call)
        for i in self.placement.before:
            if isinstance(i, Instruction):
                self.compute_all(i, call)
            else:
                self.shift(i[0], i[1], call)
        loop = self.write_loop() if d.carried else []
        after = [f"del {', '.join(self.copies)}"] if self.copies else []
        self.made[CALL] = after
        for i in d.after:
            if not all(s in self.names for s in i.outputs):
                self._missing_views(i.symbols, after)
                self.compute_all(i, after)
        self._missing_views([*d.wanted, *self.keep, *operands(d.totals), *d.looked_at], after)
        for s, size, what in self.checks:
            if s not in self.inputs:
                after.append(f"check({self.all(s)}, {size}, {what!r})")
        wanted = [self._given_away(s) for s in d.wanted]
        sums = Sums(self.lines, self.names, self.finals, after)
        totals = [sums.write(t) for t in d.totals]
        finals = [self.finals[old] for old, _ in [*d.carried, *d.shifted]]
        results = [wanted, finals, totals, [self.all(s) for s in self.keep]]
        after.append("return " + ", ".join(f"[{', '.join(texts)}]" for texts in results))
        return self._assemble([*call, *loop, *after])

    def _missing_views(self, symbols: Sequence[Symbol], body: list[str]) -> None:
        """Views within the loop that are asked for at all steps, and were made step by step."""
        for s in symbols:
            chain = []
            while s not in self.names:
                chain.append(s.instruction)
                s = s.instruction.inputs[0]  # type: ignore[union-attr]
            for i in reversed(chain):
                self.view_all(i, body)  # type: ignore[arg-type]

    def _given_away(self, s: Symbol) -> str:
        """What the caller gets: memory that no other call will write into."""
        name, own = self.all(s), base(s)
        if self.d.levels[s] == FIXED:
            return f"broadcast_to({name}, (T, *{self.lines.constant(s.shape)})).copy()"
        home = self.homes.get(own)
        return f"{name}.copy()" if (home is not None and home.owner != CALLER) or own in self.saved else name

    def _assemble(self, body: list[str]) -> Code:
        """The functions: one that makes views for each source, and `run`."""
        mentioned = set(re.findall(r"\w+", "\n".join(body)))
        parts, unpack = [], []
        for source in (KEEPS, LENT, SAVED):
            lines = self.made[source]
            here = [n for n, where in self.source.items() if where == source]
            used = [n for n in here if n in mentioned]
            unpack += [f"{', '.join(used)}, = {source}"] if used else []
            names = self.array_names[source]
            made = [f"{', '.join(names)}, = arrays"] if names else []
            made += [*lines, f"return {', '.join(used)}," if used else "return ()"]
            parts.append(f"def {source}_views(T, block, arrays):\n" + "".join(f"    {line}\n" for line in made))
        given = [self.names[s] for s in self.inputs if s not in self.saved]
        unpack += [f"{', '.join(given)}, = given"] if given else []
        if "sigmoid_into" in mentioned:  # where exp overflows, the limit is right
            body = ["with errstate(over='ignore'):", *(f"    {line}" for line in body)]
        head = "def run(T, block, given, inits, kept, temporary, saved):\n"
        parts.append(head + "".join(f"    {line}\n" for line in [*unpack, *body]))
        source = "\n".join(parts)
        space = dict(self.lines.names)
        exec(compile(source, "<compiled loop>", "exec"), space)
        views = {kind: space[f"{kind}_views"] for kind in (KEEPS, LENT, SAVED)}
        saves = {s: self.source[self.names[s]] for s in self.keep}
        per_step = sum(size for size, length in self.placement.temporary.slots if length == "block")
        inputs = [s for s in self.inputs if s not in self.saved]
        return Code(space["run"], source, inputs, self.saved, self.placement, views, self.arrays, saves, per_step)


def emit(
    divided: Pass, keep: Sequence[Symbol], checks: Sequence[Any], backward_in_time: bool, saved: Sequence[Symbol]
) -> Code:
    """Write a pass. keep: what the backward pass will read; saved: those that the forward pass kept in a workspace."""
    return Writer(divided, keep, checks, backward_in_time, saved).write()
