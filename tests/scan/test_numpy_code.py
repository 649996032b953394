"""The lines of each instruction, for one step and for many, against what the instruction means."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from minigrad import backends
from minigrad.scan import numpy_code
from minigrad.scan.numpy_code import Lines
from minigrad.scan.record import Recorder
from minigrad.scan.symbols import CREATION, EARLY, SIGNATURES, VIEWS, Symbol, evaluate, symbols

T = 4
F, G, ROW, COLUMN, ONE = ("f", (2, 3)), ("f", (2, 3)), ("f", (3,)), ("f", (2, 1)), ("f", ())
TALL, DEEP, WIDE, SQUARE = ("f", (3, 2)), ("f", (2, 3, 4)), ("f", (2, 4, 3)), ("f", (3, 3))
N, M, ROWS = ("i", (2, 3)), ("b", (2, 3)), ("i", (2,))
s = symbols

# What is written, of which arrays.
FORMS: dict[str, tuple[Any, list[Any]]] = {
    **{
        name: (lambda a, name=name: getattr(s, name)(a), [F])
        for name in "abs cos exp isfinite negative sigmoid sign sin tanh".split()
    },
    **{name: (lambda a, name=name: getattr(s, name)(s.abs(a)), [F]) for name in "log log1p sqrt".split()},
    **{
        f"{name} of {what}": (lambda a, b, name=name: getattr(s, name)(a, b), given)
        for name in "add divide equal greater greater_equal less less_equal logaddexp maximum minimum multiply "
        "not_equal subtract".split()
        for what, given in {
            "two": [F, G], "a row": [F, ROW], "a row before": [ROW, F], "a column": [COLUMN, ROW], "a number": [F, ONE],
            "more axes": [DEEP, ("f", (4,))],
        }.items()
    },
    **{
        f"{name} of integers": (lambda a, b, name=name: getattr(s, name)(a, b), [N, ("i", (3,))])
        for name in "add subtract multiply maximum minimum less equal".split()
    },
    "logical_not": (lambda a: s.logical_not(a), [M]),
    "logical_and": (lambda a, b: s.logical_and(a, b), [M, ("b", (3,))]),
    "logical_or": (lambda a, b: s.logical_or(a, b), [M, M]),
    **{f"to the power of {n!r}": (lambda a, n=n: s.abs(a) ** n, [F]) for n in (2, 0.5, -1, 3, -0.5, 2.0)},
    "a remainder": (lambda a, b: s.remainder(a, b), [F, ROW]),
    "a remainder by a number": (lambda n: s.remainder(n, 3), [N]),
    "a power": (lambda a, b: s.pow(s.abs(a), b), [F, ROW]),
    "a power of a number": (lambda a: 2.0**a, [F]),
    "plus a number": (lambda a: a + 1.5, [F]),
    "plus a whole number": (lambda a: a + 1, [F]),
    "a number less": (lambda a: 1 - a, [F]),
    "over a number": (lambda a: a / 3, [F]),
    "a number over": (lambda a: 3 / a, [F]),
    "an integer plus a number": (lambda n: n + 1, [N]),
    "an integer over a number": (lambda n: n / 2, [N]),
    "a comparison with a number": (lambda a: a > 0.1, [F]),
    "a comparison of integers with a float": (lambda n: n > 0.5, [N]),
    "the same number twice": (lambda a: s.where(a > 0, 0.5, 0.5), [F]),
    "where": (lambda m, a, b: s.where(m, a, b), [M, F, G]),
    "where, of a number": (lambda m, a: s.where(m, a, 0.0), [M, F]),
    "where, broadcast": (lambda m, a, b: s.where(m, a, b), [("b", (2, 1)), ROW, F]),
    "where, of more axes": (lambda m, a, b: s.where(m, a, b), [("b", (3,)), DEEP[:1] + ((2, 3, 3),), ROW]),
    "clip": (lambda a: s.clip(a, -0.3, 0.4), [F]),
    "clip from below": (lambda a: s.clip(a, 0, None), [F]),
    "clip from above": (lambda a: s.clip(a, None, 0), [F]),
    "clip not at all": (lambda a: s.clip(a, None, None), [F]),
    "clip of integers": (lambda a: s.clip(a, 0, 1), [N]),
    "astype": (lambda a: s.astype(a, np.dtype("float32")), [F]),
    "astype, whole": (lambda a: s.astype(a * 3, np.dtype("int64")), [F]),
    "astype of a mask": (lambda m: s.astype(m, np.dtype("float64")), [M]),
    # products
    "matmul": (lambda a, b: s.matmul(a, b), [F, TALL]),
    "matmul of stacks": (lambda a, b: s.matmul(a, b), [DEEP, WIDE]),
    "matmul of a stack and a matrix": (lambda a, b: s.matmul(a, b), [WIDE, SQUARE]),
    "matmul of a matrix and a stack": (lambda a, b: s.matmul(a, b), [("f", (5, 3)), DEEP]),
    "matmul of nothing": (lambda a, b: s.matmul(a, b), [("f", (2, 0)), ("f", (0, 3))]),
    # reductions
    **{
        f"{name} over {axis}{', kept' if kept else ''}": (
            lambda a, name=name, axis=axis, kept=kept: getattr(s, name)(a, axis=axis, keepdims=kept),
            [M if name in ("all", "any") else DEEP],
        )
        for name in "sum max min all any".split()
        for axis in (0, -1, None)
        for kept in (False, True)
    },
    "sum over two axes": (lambda a: s.sum(a, axis=(0, -1)), [DEEP]),
    "sum of integers": (lambda a: s.sum(a, axis=1), [N]),
    "argmax": (lambda a: s.argmax(a, axis=-1), [F]),
    "argmax, kept": (lambda a: s.argmax(a, axis=0, keepdims=True), [F]),
    "argmax of all": (lambda a: s.argmax(a), [F]),
    "cumulative_sum": (lambda a: s.cumulative_sum(a, axis=-1), [F]),
    "cumulative_sum of rows": (lambda a: s.cumulative_sum(a, axis=0), [F]),
    # joining
    "concat": (lambda a, b: s.concat([a, b], axis=-1), [F, COLUMN]),
    "concat of rows": (lambda a, b: s.concat([a, b], axis=0), [F, SQUARE]),
    "concat of a value with itself": (lambda a: s.concat([a, a], axis=1), [F]),
    "stack": (lambda a, b: s.stack([a, b], axis=0), [F, G]),
    "stack as columns": (lambda a, b: s.stack([a, b], axis=-1), [F, G]),
    # indices
    "take": (lambda a, k: s.take(a, k, axis=0), [SQUARE, ROWS]),
    "take of columns": (lambda a, k: s.take(a, k, axis=1), [SQUARE, ROWS]),
    "take_along_axis": (lambda a, k: s.take_along_axis(a, k, axis=-1), [F, ("i", (2, 1))]),
    "index": (lambda a, k: s.index(a, (k,)), [SQUARE, ROWS]),
    "index of columns": (lambda a, k: s.index(a, (slice(None), k)), [SQUARE, ROWS]),
    "index_update": (lambda a, b: s.index_update(a, (slice(0, 1),), b), [F, ROW]),
    "index_update where an index says": (lambda a, k, b: s.index_update(a, (k,), b), [SQUARE, ROWS, F]),
    "scatter": (lambda a, k: s.scatter(a, (k,), (4, 3)), [F, ROWS]),
    "scatter of a part": (lambda a: s.scatter(a, (slice(0, 2),), (4, 3)), [F]),
    # views
    "reshape": (lambda a: s.reshape(a, (3, 2)), [F]),
    "reshape to a row": (lambda a: s.reshape(a, (6,)), [F]),
    "reshape to a number": (lambda a: s.reshape(a, ()), [("f", (1, 1))]),
    "expand_dims": (lambda a: s.expand_dims(a, axis=0), [F]),
    "expand_dims at the end": (lambda a: s.expand_dims(a, axis=-1), [F]),
    "broadcast_to": (lambda a: s.broadcast_to(a, (2, 3)), [COLUMN]),
    "broadcast_to more axes": (lambda a: s.broadcast_to(a, (4, 2, 3)), [ROW]),
    "broadcast_to of a number": (lambda a: s.broadcast_to(a, (2, 3)), [ONE]),
    "flip": (lambda a: s.flip(a, axis=0), [F]),
    "flip of all axes": (lambda a: s.flip(a), [F]),
    "matrix_transpose": (lambda a: s.matrix_transpose(a), [F]),
    "matrix_transpose of a stack": (lambda a: s.matrix_transpose(a), [DEEP]),
    "permute_dims": (lambda a: s.permute_dims(a, (2, 0, 1)), [DEEP]),
    "a slice": (lambda a: s.index(a, (slice(None), slice(1, 3))), [F]),
    "a slice of rows": (lambda a: s.index(a, (slice(0, 1),)), [F]),
    "a slice backwards": (lambda a: s.index(a, (slice(None, None, -1),)), [F]),
    "a row": (lambda a: s.index(a, (1,)), [F]),
    "the last column": (lambda a: s.index(a, (Ellipsis, -1)), [F]),
    "an axis more": (lambda a: s.index(a, (None, 0)), [F]),
    "split": (lambda a: s.split(a, (1, 2), axis=1)[1], [F]),
    "split of rows": (lambda a: s.split(a, (1, 1), axis=0)[0], [F]),
    "unstack": (lambda a: s.unstack(a, axis=1)[2], [F]),
}  # fmt: skip


def written(form: str) -> tuple[Any, list[np.ndarray]]:
    """The last instruction of a form, and arrays for its inputs at all steps."""
    make, given = FORMS[form]
    dtypes = {"f": "float64", "i": "int64", "b": "bool"}
    recorder, rng = Recorder(backends.numpy), np.random.default_rng(0)
    i = make(*(recorder.symbol(shape, np.dtype(dtypes[kind]), EARLY, "x") for kind, shape in given)).instruction
    recorder.writing = False
    arrays = []
    for x in i.symbols:
        values = 10 * rng.normal(size=(T, *x.shape)) if i.name == "sigmoid" else rng.normal(size=(T, *x.shape))
        values = np.abs(values) if i.name in ("log", "log1p", "sqrt", "pow") else values
        values = rng.integers(0, 2, (T, *x.shape)) if x.dtype.kind in "ib" else values
        arrays.append(values.astype(x.dtype))
    return i, arrays


def carried_out(i: Any, arrays: list[Any], moving: list[bool], lead: Any, out: Any, whole: bool) -> list[np.ndarray]:
    """What the lines of an instruction make of arrays. out: where to write, for those that can; else they answer."""
    lines, args, names, flags = Lines(), [], {"T": T, "out": out}, []
    given = iter(zip(arrays, moving))
    for k, x in enumerate(i.inputs):
        if isinstance(x, Symbol):
            names[f"a{k}"], moves = next(given)
            args.append(f"a{k}")
            flags.append(moves)
        else:
            args.append(repr(x))
            flags.append(False)
    if i.name in VIEWS:
        texts = lines.views(i, args[0], lead)
        return [eval(text, {**lines.names, **names}) for text in texts]
    line = lines.into(i, args, flags, lead, "out", whole)
    if not line:
        return [eval(lines.value(i, args, flags, lead), {**lines.names, **names})]
    exec(line, {**lines.names, **names})
    return [out]


def garbage(shape: tuple[int, ...], dtype: Any, whole: bool = True) -> Any:
    """An array to write into; if not whole, columns of a wider one."""
    wide = np.full(shape if whole else (*shape[:-1], shape[-1] + 2), 99).astype(dtype)
    return wide if whole else wide[..., 1:-1]


def meant(i: Any, arrays: list[np.ndarray]) -> list[np.ndarray]:
    given = iter(arrays)
    made = evaluate(backends.numpy, i.name, [next(given) if isinstance(x, Symbol) else x for x in i.inputs], i.static)
    return made if isinstance(made, list) else [made]


def same(found: list[Any], expected: list[Any]) -> None:
    assert len(found) == len(expected)
    for a, e in zip(found, expected):
        assert (np.shape(a), a.dtype) == (e.shape, e.dtype)
        np.testing.assert_allclose(a, e, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("form", FORMS)
def test_the_line_for_one_step_does_what_the_instruction_means(form):
    i, arrays = written(form)
    arrays = [a[0, ...] for a in arrays]
    out = i.outputs[0]
    for whole in [True, False][: 2 if out.ndim else 1]:
        found = carried_out(i, arrays, [False] * len(arrays), None, garbage(out.shape, out.dtype, whole), whole)
        same(found, meant(i, arrays))


@pytest.mark.parametrize("form", FORMS)
def test_the_line_for_many_steps_does_at_each_what_the_line_for_one_does(form):
    """With every choice of what moves in time and what is the same at every step."""
    i, arrays = written(form)
    out = i.outputs[0]
    for moving in itertools.product([True, False], repeat=len(arrays)):
        if any(moving):
            here = [a if moves else a[0, ...] for a, moves in zip(arrays, moving)]
            found = carried_out(i, here, list(moving), "T", garbage((T, *out.shape), out.dtype), True)
            expected = [meant(i, [a[t, ...] if m else a for a, m in zip(here, moving)]) for t in range(T)]
            same(found, [np.stack(parts) for parts in zip(*expected)])


def test_there_is_a_form_of_every_instruction():
    names = {written(form)[0].name for form in FORMS}
    assert names == {*SIGNATURES, "concat", "stack", "index_update"} - set(CREATION)


def test_views_share_the_memory_that_they_look_at():
    for form in FORMS:
        i, arrays = written(form)
        if i.name in VIEWS:
            for lead, x in (("T", arrays[0]), (None, arrays[0][0, ...])):
                for part in carried_out(i, [x], [lead is not None], lead, None, True):
                    assert not part.size or np.shares_memory(part, x), (form, lead)


def test_numbers_become_arrays_of_the_dtype_they_are_computed_in_once():
    lines = Lines()
    one, again = lines.number(1, np.dtype("float32")), lines.number(1, np.dtype("float32"))
    assert one == again and lines.names[one].dtype == np.float32 and lines.names[one].shape == ()
    assert lines.number(1.0, np.dtype("float32")) != one != lines.number(1, np.dtype("float64"))
    assert lines.number(0.0, np.dtype("float32")) != lines.number(-0.0, np.dtype("float32"))


def test_sigmoid_is_its_limit_where_exp_overflows():
    x = np.array([-1e4, -750.0, -1.0, 0.0, 1.0, 750.0, 1e4, np.inf, -np.inf, np.nan])
    out = np.empty_like(x)
    with np.errstate(over="ignore"):
        numpy_code.sigmoid_into(x, np.asarray(1.0), out)
    expected = [0.0, 0.0, 1 / (1 + np.e), 0.5, 1 / (1 + 1 / np.e), 1.0, 1.0, 1.0, 0.0, np.nan]
    np.testing.assert_allclose(out, expected, rtol=1e-15, atol=1e-300)


@pytest.mark.parametrize("steps", [1, 2, 100])
def test_a_factor_of_many_products_is_copied_only_if_that_pays_and_keeps_its_values(steps):
    a = np.random.default_rng(0).normal(size=(19, 21))
    for matrix in (a, a.T, a[:, 2:9], a.T[3:, 1:20], a[::2], a[:, ::2]):
        found = numpy_code.contiguous(matrix, steps)
        np.testing.assert_array_equal(found, matrix)
        assert found.flags.c_contiguous or steps == 1 or np.shares_memory(found, a)
        assert found is matrix or found.flags.c_contiguous
    assert numpy_code.contiguous(a, steps) is a
    assert numpy_code.contiguous(a[:, 2:9], 1).base is a and numpy_code.contiguous(a.T, 100).flags.c_contiguous


def test_products_over_time_are_the_sums_of_products():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(T, 2, 3)), rng.normal(size=(T, 2, 5))
    expected = sum(a[t].T @ b[t] for t in range(T))
    out = garbage((3, 9), np.float64)
    np.testing.assert_allclose(numpy_code.product_over_rows(a, b), expected, rtol=1e-13)
    numpy_code.product_over_rows(a, b, out[:, 2:7])
    np.testing.assert_allclose(out[:, 2:7], expected, rtol=1e-13)
    a, b = rng.normal(size=(T, 2, 6, 3)), rng.normal(size=(T, 2, 3, 5))
    expected = sum(a[t] @ b[t] for t in range(T))
    np.testing.assert_allclose(numpy_code.product_over_time(a, b), expected, rtol=1e-13)


@pytest.mark.parametrize(
    ("left", "right"), [((2, 3), (2, 3)), ((2, 1), (1, 3)), ((1, 1), (2, 3)), ((2, 1, 4), (2, 3, 1)), ((1, 1), (1, 1))]
)
def test_sums_of_broadcast_products_are_the_sums_of_products(left, right):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(T, *left)), rng.normal(size=(T, *right))
    found = numpy_code.sum_of_products(a, b)
    assert found.shape == (a * b).shape[1:]
    np.testing.assert_allclose(found, (a * b).sum(0), rtol=1e-13)


def test_the_elements_of_a_vector_can_be_written_into_one_by_one():
    x = np.zeros(3)
    for k, one in enumerate(numpy_code.zero_d(x)):
        assert one.shape == ()
        one[...] = k
    assert x.tolist() == [0, 1, 2]
