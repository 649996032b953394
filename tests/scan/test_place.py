"""Where values live: a buffer is used again once its value is dead and never before; what is given away is apart."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

import minigrad as mg
from minigrad import backends, nn, tree
from minigrad.scan import cache, compiled
from minigrad.scan.divide import base
from minigrad.scan.numpy_code import UFUNCS
from minigrad.scan.place import CALLER, KEPT, TEMPORARY, can_write
from minigrad.scan.program import Part, Program
from minigrad.scan.record import Kind, record
from minigrad.scan.symbols import FIXED, VIEWS, Instruction, Symbol
from minigrad.scan.totals import operands
from tests.nn.helpers import MGU

from .cells import Case, cases
from .helpers import fixed, leaf, weighted
from .test_random_cells import leaves_of, loss_of

B, H = 2, 4


def rows(size: int = H, needs_grad: bool = False) -> Kind:
    return Kind((B, size), np.dtype("float32"), needs_grad)


def program(step: Any, xs: Any = None, state: Any = None, differentiate: bool = False) -> Program:
    state = rows() if state is None else state
    return Program(record(step, backends.numpy, rows() if xs is None else xs, state, (), differentiate), [], False)


def made_by(part: Part, name: str) -> list[Symbol]:
    """The values in the loop that instructions of this name make."""
    return [s for i in part.divided.loop if i.name == name for s in i.outputs]


# Small steps


def test_a_new_state_that_is_asked_for_is_written_where_the_next_step_reads_it():
    part = program(lambda x, h: ((h := mg.tanh(x + h)), h)).forward
    ((old, new),) = part.divided.carried
    home = part.code.placement.homes[new]
    assert home is part.code.placement.homes[old]
    assert (home.owner, home.span) == (CALLER, "all and first")
    assert part.code.placement.direct == {old} and "copyto" not in part.code.source


def test_a_state_that_only_the_loop_reads_is_written_over():
    part = program(lambda x, h: (x, mg.tanh(x + h))).forward
    ((old, new),) = part.divided.carried
    home = part.code.placement.homes[new]
    assert home is part.code.placement.homes[old] and (home.owner, home.span) == (TEMPORARY, "one")
    assert "copyto" not in part.code.source


def test_a_state_is_not_written_over_while_it_is_still_to_be_read():
    def step(x, s):
        h, c = s
        return x, (mg.tanh(x + h), mg.sin(h * c))

    part = program(step, state=(rows(), rows())).forward
    homes = part.code.placement.homes
    (h, new_h), (c, new_c) = part.divided.carried
    assert homes[h].span == "all and first" and homes[new_h] is homes[h]
    assert homes[c].span == "one" and homes[new_c] is homes[c]


def test_states_that_change_places_or_stay_are_copied():
    def step(x, s):
        a, b = s
        return x, (b, mg.tanh(a + x))

    part = program(step, state=(rows(), rows())).forward
    (a, _), (b, _) = part.divided.carried
    assert part.code.placement.direct.isdisjoint([a]) and part.code.source.count("copyto(") == 1
    assert part.code.placement.homes[a] is not part.code.placement.homes[b]


def test_parts_are_written_straight_into_what_they_are_joined_to():
    def step(x, h):
        h = mg.concat([mg.tanh(h[:, :1] + x[:, :1]), mg.sin(h[:, 1:] * 2)], axis=-1)
        return h, h

    part = program(step).forward
    homes = part.code.placement.homes
    (whole,), (tanh,), (sin,) = (made_by(part, name) for name in ("concat", "tanh", "sin"))
    assert homes[tanh].inside == (whole, 0) and homes[sin].inside == (whole, 1)
    assert "copyto" not in part.code.source and "concatenate" not in part.code.source


def test_a_part_that_is_joined_twice_or_to_two_things_is_copied_where_it_is_not():
    def step(x, h):
        a = mg.tanh(h[:, :2] + x[:, :2])
        return x, mg.concat([a, a], axis=-1) + mg.concat([mg.sin(a), a], axis=-1)

    part = program(step).forward
    homes = part.code.placement.homes
    (tanh,), (sin,), wholes = (made_by(part, name) for name in ("tanh", "sin", "concat"))
    assert homes[tanh].inside == (wholes[1], 2) and homes[sin].inside == (wholes[1], 0)
    assert part.code.source.count("copyto(") == 2


def test_a_value_that_is_wanted_outside_has_a_slot_for_every_step_and_others_have_one():
    def step(x, h):
        a = mg.tanh(x + h)
        b = mg.sin(a)
        return b, mg.cos(b)

    part = program(step).forward
    homes = part.code.placement.homes
    spans = {name: (homes[s].owner, homes[s].span) for name in ("tanh", "sin", "cos") for s in made_by(part, name)}
    assert spans == {"tanh": (TEMPORARY, "one"), "sin": (CALLER, "all"), "cos": (TEMPORARY, "one")}


def test_a_chain_of_functions_needs_one_buffer():
    def step(x, h):
        h = h + x
        for f in (mg.tanh, mg.sin, mg.cos, mg.exp, mg.tanh):
            h = f(h)
        return x, h

    part = program(step).forward
    sizes = [size for size, length in part.code.placement.temporary.slots if length == "1"]
    assert sizes == [B * H * 4] * 2  # the state, and what becomes of it


def test_a_buffer_is_not_used_again_while_its_value_is_alive():
    def step(x, h):
        a, b, c = mg.tanh(h + x), mg.sin(h + x), mg.cos(h + x)
        return x, a * b * c

    part = program(step).forward
    homes = part.code.placement.homes
    alive = [homes[s].slot for name in ("tanh", "sin", "cos") for s in made_by(part, name)]
    assert len(set(alive)) == 3


def test_kept_values_lie_where_inputs_lay_that_are_spent():
    """The gates of the cell take the place of the products of the inputs."""
    p = program(MGU(5, H), xs=rows(5), state=rows(needs_grad=True), differentiate=True)
    place = p.forward.code.placement
    shared = [i.outputs[0] for i in p.forward.divided.before if i.name == "matmul"]
    slots = {place.homes[s].slot for s in shared}
    gates = made_by(p.forward, "sigmoid") + made_by(p.forward, "tanh")
    assert len(slots) == 2 and all(place.homes[s].owner == KEPT for s in shared + gates)
    assert {place.homes[s].slot for s in gates} == slots
    light = p.light.code.placement
    assert not light.kept.slots and all(light.homes[s].owner == TEMPORARY for s in shared)


def test_factors_of_products_over_time_do_not_share_their_memory():
    """Their rows are to lie one after another."""
    p = program(MGU(5, H), xs=rows(5), state=rows(needs_grad=True), differentiate=True)
    place, factors = p.forward.code.placement, {base(s) for s in operands(p.backward.divided.totals)}
    found = [place.homes[s] for s in factors if s in place.homes]
    assert found and all(home.apart == 0 for home in found)


def test_an_lstm_copies_nothing_in_its_loops_and_computes_into_buffers_only():
    p = program(nn.LSTMCell(5, H), rows(5), (rows(needs_grad=True), rows(needs_grad=True)), True)
    for part in (p.forward, p.backward, p.light):
        loop = part.code.source.split(" in zip(")[-1].split("return")[0]
        assert "copyto" not in loop and "empty" not in loop
        assert all(s in part.code.placement.homes for i in part.divided.loop if i.name != "split" for s in i.outputs)


# Random steps, by a simulation of what is in memory


class Memory:
    """Who lies in which bytes of each slot of each plan. A value is there until something else is written over it."""

    def __init__(self, part: Part):
        self.homes = part.code.placement.homes
        self.there: dict[Any, dict[Symbol, tuple[int, int]]] = {}  # by plan and slot: from which byte to which

    def write(self, s: Symbol) -> None:
        slot, ours = self._place(s)
        others = self.there.get(slot, {}).items()
        stay = {x: (a, b) for x, (a, b) in others if b <= ours[0] or a >= ours[1] or self._joined(s, x)}
        self.there[slot] = {**stay, s: ours}

    def holds(self, s: Symbol) -> bool:
        slot, _ = self._place(s)
        return slot is None or s in self.there.get(slot, {})

    def shares(self, s: Symbol, other: Symbol) -> bool:
        """Whether these lie in the same slot."""
        a, b = self._place(s)[0], self._place(other)[0]
        return a is not None and a == b and not self._joined(s, other)

    def _joined(self, s: Symbol, other: Symbol) -> bool:
        """Parts of one array, or an array and its part: writing one is not writing over the other."""
        return self._whole(s) is self._whole(other)

    def _whole(self, s: Symbol) -> Symbol:
        inside = self.homes[s].inside
        return s if inside is None else inside[0]

    def _place(self, s: Symbol) -> tuple[Any, tuple[int, int]]:
        home = self.homes.get(s)
        if home is None or home.owner == CALLER:
            return None, (0, 0)  # an array of its own
        whole = self._whole(s)
        return (home.owner, home.slot), (home.within, home.within + whole.size * whole.dtype.itemsize)


def follow(part: Part) -> None:
    """Go through a pass of one step: what is read has to be there, and what is needed later still be there."""
    d, place = part.divided, part.code.placement
    memory = Memory(part)
    states = {s for pair in d.carried for s in pair}

    def read(s: Symbol, why: Any) -> None:
        s = base(s)
        if s not in d.given and d.levels[s] != FIXED and (s.instruction is not None or s in states):
            assert memory.holds(s), f"{s} is no longer there for {why}"

    def do(i: Instruction) -> None:
        for x in i.symbols:
            read(x, i.name)
        if i.name in VIEWS or d.levels[i.outputs[0]] == FIXED:
            return
        (s,) = i.outputs
        for x in {base(x) for x in i.symbols}:
            if s in place.homes and x in place.homes and x is not s and memory.shares(s, x):
                whole = all(y is x for y in i.symbols if base(y) is x)
                assert i.name in UFUNCS and whole and x.shape == s.shape, f"{i.name} is written over what it reads"
        memory.write(s)

    for item in place.before:
        if isinstance(item, Instruction):
            do(item)
        else:
            read(item[1], "the state that it becomes")
    for i in place.tile:
        do(i)
    for old, _ in d.carried:
        memory.write(old)
    for i in d.loop:
        do(i)
    for old, new in d.carried:
        if place.homes.get(new) is not place.homes[old]:
            read(new, "the next state")
    for s in d.stored:
        read(s, "after the loop")
    for i in d.after:
        do(i)
    for s in [*d.wanted, *operands(d.totals), *place.keep, *d.looked_at]:
        if not (base(s) in states and place.homes.get(base(s)) and place.homes[base(s)].span == "all and first"):
            read(s, "the end")


def homes_make_sense(part: Part) -> None:
    d, place = part.divided, part.code.placement
    keep, wanted = {base(s) for s in place.keep}, {base(s) for s in d.wanted}
    for s, home in place.homes.items():
        plan = {KEPT: place.kept, TEMPORARY: place.temporary}.get(home.owner)
        if plan is not None:
            size, length = plan.slots[home.slot]
            whole = home.inside[0] if home.inside else s
            assert length == {"all": "T", "all and first": "T1", "block": "block", "one": "1"}[home.span]
            assert home.within + whole.size * whole.dtype.itemsize <= size and home.apart in (0, size)
            assert home.within % s.dtype.itemsize == 0
        if home.span in ("one", "block"):
            assert s not in d.stored and s not in keep and s not in wanted
        assert home.owner != TEMPORARY or s not in keep
    for s in d.stored:
        assert s not in place.homes or place.homes[s].span in ("all", "all and first")
    for i in d.loop:
        assert i.name in VIEWS or not can_write(i) or i.outputs[0] in place.homes


def call_of(case: Case) -> Any:
    """The program of a random step, and what it was made from."""
    p, leaves = case.program, leaves_of(case, case.steps, case.seed)
    xs, init, context = (p.nested(which, leaves) for which in ("xs", "state", "context"))
    return compiled._Call(p.step(leaves), xs, init, tuple(context), case.reverse, case.steps)


FEWER = functools.partial(settings, max_examples=max(30, settings().max_examples // 4), deadline=None)


@FEWER()
@given(case=cases())
def test_in_random_steps_nothing_is_written_over_that_is_still_to_be_read(case):
    found = call_of(case).program
    if found is not None:
        for part in (found.forward, found.backward, found.light):
            if part is not None:
                homes_make_sense(part)
                follow(part)


@pytest.mark.parametrize("cell", [nn.LSTMCell, nn.GRUCell, nn.ElmanCell, MGU])
@pytest.mark.parametrize("batch", [1, 2, 20])
def test_in_cells_nothing_is_written_over_that_is_still_to_be_read(cell, batch):
    kind = [Kind((batch, n), np.dtype("float32"), True) for n in (3, H)]
    p = program(cell(3, H), kind[0], (kind[1], kind[1]) if cell is nn.LSTMCell else kind[1], True)
    for part in (p.forward, p.backward, p.light):
        homes_make_sense(part)
        follow(part)


def test_the_simulation_notices_a_buffer_that_is_used_too_early():
    def step(x, h):
        a, b = mg.tanh(h + x), mg.sin(h + x)
        return x, a * b

    part = program(step).forward
    follow(part)
    (tanh,), (sin,) = made_by(part, "tanh"), made_by(part, "sin")
    part.code.placement.homes[sin] = part.code.placement.homes[tanh]
    with pytest.raises(AssertionError, match="no longer there"):
        follow(part)


# What the caller gets


def buffers() -> list[Any]:
    """The memory of all buffers that wait."""
    parts = [part for p in cache.programs.all() for part in (p.forward, p.backward, p._light) if part]
    return [w.memory for part in parts for pool in (part.kept, part.temporary) for w in pool.free]


@FEWER()
@given(case=cases())
def test_what_the_caller_gets_is_never_in_a_workspace(case):
    cache.clear_cache()
    p, leaves = case.program, leaves_of(case, case.steps, case.seed)
    xs, init, context = (p.nested(which, leaves) for which in ("xs", "state", "context"))
    outs, state = mg.scan(p.step(leaves), xs, init, tuple(context), reverse=case.reverse)
    loss = loss_of(case, outs, state)
    if isinstance(loss, mg.Tensor) and loss.requires_grad:
        loss.backward()
    del loss
    arrays = [y.data for y in tree.leaves((outs, state))]
    arrays += [x.grad.data for x in leaves.values() if x.requires_grad and x.grad is not None]
    for memory in buffers():
        assert not any(np.may_share_memory(a, memory) for a in arrays)


def test_the_arrays_of_two_calls_and_of_what_they_were_given_are_apart():
    w = leaf(3)

    def step(x, h):
        a, b = mg.split(mg.concat([x, h], axis=-1), 2, axis=-1)
        return (x, h, a, w, mg.tanh(h)), b * w

    cache.clear_cache()
    xs, h = fixed(4, 2, 3), fixed(2, 3)
    arrays = [xs.data, h.data, w.data]
    for _ in range(2):
        outs, state = mg.scan(step, xs, h)
        arrays += [y.data for y in (*outs[1:], state)]
        weighted((outs, state)).backward()
    apart = [a for k, a in enumerate(arrays) if any(np.shares_memory(a, b) for b in arrays[:k])]
    assert buffers() and apart == []
