"""What tensors and modules show in a notebook: well-formed, escaped, and true."""

from __future__ import annotations

import math
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import backends, html, nn
from minigrad.nn import Module, Parameter
from minigrad.tensor import Tensor
from tests.conftest import BACKENDS
from tests.strategies import LAYOUTS, SEEDS, as_tensor, laid_out, shapes

DTYPES = ["bool", "int32", "int64", "float32", "float64"]


def parsed(shown: object) -> ElementTree.Element:
    return ElementTree.fromstring(shown._repr_html_())  # type: ignore[attr-defined]


def text(element: ElementTree.Element) -> str:
    return "".join(element.itertext())


def heading(element: ElementTree.Element) -> str:
    return text(element.findall("p")[0])


def table(element: ElementTree.Element) -> dict[tuple[str, ...], str]:
    """The cells that hold values, by the names of their row (for a vector none) and column."""
    columns = [text(cell) for cell in element.find("thead/tr")]
    found = {}
    for row in element.findall("tbody/tr"):
        cells = [text(cell) for cell in row]
        assert len(cells) == len(columns)
        names = (cells[0],) if row[0].tag == "th" else ()
        for column, cell in list(zip(columns, cells))[len(names) :]:
            if column != "⋯" and names != ("⋮",):
                found[(*names, column)] = cell
    return found


def shown_as(cell: str, value: object) -> bool:
    """Whether a cell says what a value is, floats to four digits."""
    if isinstance(value, float):
        return float(cell) == value or math.isclose(float(cell), value, rel_tol=5e-4) or cell == str(value) == "nan"
    return cell == str(value)


def values(seed: int, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if dtype == "bool":
        return rng.random(shape) < 0.5
    if dtype.startswith("int"):
        return rng.integers(-(2**30), 2**30, shape).astype(dtype)
    numbers = rng.normal(0, 1, shape) * 10.0 ** rng.integers(-30, 30, shape)
    return np.where(rng.random(shape) < 0.2, rng.choice([0.0, math.nan, math.inf, -math.inf], shape), numbers).astype(
        dtype
    )


# Tensors


@given(shapes(max_dims=5), st.sampled_from(DTYPES), st.sampled_from(LAYOUTS), SEEDS, st.sampled_from(BACKENDS))
def test_any_tensor_shows_what_it_is_and_the_values_that_stand_at_the_named_places(shape, dtype, layout, seed, home):
    array = laid_out(values(seed, shape, dtype), layout)
    page = parsed(as_tensor(array, home))
    assert heading(page) == f"Tensor {shape}, {dtype}, {home}"
    tables = page.findall("table")
    assert len(tables) == (min(math.prod(shape[:-2]), html.SLICES) if shape and array.size else 0)
    for found, lead in zip(tables, np.ndindex(*shape[:-2])):
        matrix = array[lead]
        cells = table(found)
        assert len(cells) == matrix.size
        assert all(shown_as(cell, matrix[tuple(map(int, place))].item()) for place, cell in cells.items())
        caption = found.find("caption")
        assert (caption is None) == (not lead)
        if caption is not None:
            assert text(caption) == f"[{', '.join(map(str, lead))}, :, :]"
    if not array.size:
        assert "no values" in text(page)
    if not shape:
        assert shown_as(text(page.findall("p")[1]), array.item())
    left = math.prod(shape[:-2]) - html.SLICES
    more = f"and {left:,} more such table{'' if left == 1 else 's'}"
    assert (text(page.findall("p")[-1]) == more) == (left > 0 and array.size > 0)


@given(st.integers(1, 40), st.integers(1, 40), SEEDS, st.sampled_from(BACKENDS))
def test_of_a_long_matrix_both_ends_are_shown_under_their_own_numbers(rows, columns, seed, home):
    array = values(seed, (rows, columns), "float32")
    page = parsed(as_tensor(array, home))
    cells = table(page.find("table"))
    assert all(shown_as(cell, array[int(i), int(j)].item()) for (i, j), cell in cells.items())
    assert len(cells) == min(rows, html.ROWS) * min(columns, html.COLUMNS)
    for places, size, most in zip(zip(*cells), (rows, columns), (html.ROWS, html.COLUMNS)):
        ends = range(size) if size <= most else [*range(most // 2), *range(size - most // 2, size)]
        assert {int(place) for place in places} == set(ends)
    hidden = rows > html.ROWS or columns > html.COLUMNS
    bad = int((~np.isfinite(array)).sum())
    assert (f"{bad:,} of {array.size:,} values NaN or infinite" in text(page)) == (hidden and bad > 0)


def test_nan_and_infinity_stand_out(backend):
    page = parsed(as_tensor(np.array([1.0, math.nan, math.inf, -math.inf], np.float32), backend))
    assert [text(strong) for strong in page.iter("strong")][1:] == ["nan", "inf", "-inf"]
    assert text(parsed(as_tensor(np.array(math.nan), backend)).findall("p")[1]) == "nan"


def test_a_single_number_is_shown_to_eight_digits(backend):
    assert text(parsed(as_tensor(np.array(math.pi), backend)).findall("p")[1]) == "3.1415927"


def test_a_tensor_says_where_it_stands_in_the_graph():
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    assert heading(parsed(x)) == "Tensor (2,), float32, numpy, requires a gradient"
    assert heading(parsed(mg.tanh(x))) == "Tensor (2,), float32, numpy, made by tanh"
    assert heading(parsed(mg.tanh(x).detach())) == "Tensor (2,), float32, numpy"
    assert heading(parsed(mg.split(x, 2)[0])).startswith("Tensor (1,), float32, numpy, made by ")
    assert heading(parsed(Parameter([1.0]))).startswith("Parameter (1,)")
    y = (x * x).sum()
    y.backward()
    assert "made by sum" in heading(parsed(y))  # after its graph is gone, too


def test_a_leaf_shows_the_norm_of_its_gradient(backend):
    x = as_tensor(np.zeros((2, 1)), backend, requires_grad=True)
    assert "gradient:" not in text(parsed(x))
    x.grad = as_tensor(np.array([[3.0], [-4.0]]), backend)
    assert "gradient: (2, 1), norm 5" in text(parsed(x))


@pytest.mark.parametrize(
    ("gradient", "norm"),
    [([], "0"), ([0.0], "0"), ([3e30, 4e30], "5e+30"), ([3e-40, 4e-40], "5e-40"), ([1.0, math.nan], "nan")]
    + [([1.0, -math.inf], "inf"), ([1e-45], "1.401e-45")],
)
def test_the_norm_neither_overflows_nor_vanishes_in_between(gradient, norm, backend):
    x = as_tensor(np.zeros(len(gradient), np.float32), backend, requires_grad=True)
    x.grad = as_tensor(np.array(gradient, np.float32), backend)
    assert text(parsed(x)).endswith(f"norm {norm}")


def test_to_show_a_tensor_leaves_graph_and_gradients_alone(backend):
    x = as_tensor(np.arange(6.0).reshape(2, 3), backend, requires_grad=True)
    y = mg.sum(x * x)
    made: list[str] = []

    class Looking(mg.graph.Watcher):
        def made(self, name, node, inputs, output):
            made.append(name)

    token = mg.graph.watcher.set(Looking())
    try:
        parsed(x), parsed(y)
    finally:
        mg.graph.watcher.reset(token)
    assert made == [] and x.grad is None
    y.backward()
    before = x.grad
    parsed(x), parsed(y)
    assert x.grad is before
    np.testing.assert_array_equal(before.numpy(), 2 * np.arange(6.0).reshape(2, 3))


class _Counted(backends.NumPy):
    """NumPy, which counts the elements that leave it."""

    copied = 0

    def to_numpy(self, array):
        self.copied += array.size
        return np.asarray(array)


class _Elsewhere(np.ndarray):
    """An array of that namespace."""


@pytest.mark.parametrize("shape", [(3, 2**20, 2**20), (2**40, 10, 10), (1, 2**40, 2**20)])
def test_of_a_huge_tensor_only_what_is_shown_is_copied(shape, monkeypatch):
    counted = _Counted()
    monkeypatch.setitem(backends.namespaces, _Elsewhere, counted)
    huge = np.broadcast_to(np.float32(1), shape).view(_Elsewhere)
    page = parsed(Tensor(huge))
    assert counted.copied == min(shape[0], html.SLICES) * html.ROWS * html.COLUMNS
    assert f"{huge.size:,} values, not searched for NaN" in text(page)
    assert heading(page) == f"Tensor {huge.shape}, float32, numpy"


def test_a_symbol_inside_a_compiled_loop_shows_that_it_has_no_values():
    pages = []

    def step(x, h):
        pages.append(text(parsed(h * x)))
        return h, h + x

    mg.scan(step, mg.ones((3, 2)), mg.zeros((2,)))
    assert any("a symbol, which has no values" in page for page in pages)


# Modules


class Mixed(Module):
    def __init__(self):
        self.inner = nn.Linear(2, 3)
        self.parts = [nn.Linear(3, 1), {"<b>&\"'": Parameter([1.0])}]
        self.mask = mg.tensor([True, False])
        self.fixed = Parameter([[1.0, 2.0]])
        self.fixed.requires_grad = False


def listed(page: ElementTree.Element) -> dict[str, dict[str, list[str]]]:
    """Titles to names to the cells beside them."""
    found: dict[str, dict[str, list[str]]] = {}
    for body in page.findall("table/tbody"):
        titles = [row for row in body if row[0].get("scope") == "rowgroup"]
        title = text(titles[0]) if titles else "without a title"
        rows = [row for row in body if row not in titles]
        found[title] = {text(row[0]): [text(cell) for cell in row[1:]] for row in rows}
    return found


def test_a_module_lists_parameters_frozen_ones_and_what_is_none_apart():
    page = parsed(Mixed())
    assert heading(page) == "Mixed 16 parameters, numpy"
    assert listed(page) == {
        "parameters": {
            "inner.weight": ["(3, 2)", "float32", "6"],
            "inner.bias": ["(3,)", "float32", "3"],
            "parts.0.weight": ["(1, 3)", "float32", "3"],
            "parts.0.bias": ["(1,)", "float32", "1"],
            "parts.1.<b>&\"'": ["(1,)", "float32", "1"],
        },
        html.FROZEN: {"fixed": ["(1, 2)", "float32", "2"]},
        html.KEPT: {"mask": ["(2,)", "bool", "2"]},
    }
    assert text(page.find("table/tfoot/tr/td")) == "16"


def test_a_module_says_on_which_backends_it_lives():
    module = nn.Linear(2, 3).to("array_api_strict")
    assert heading(parsed(module)) == "Linear 9 parameters, array_api_strict"
    module.bias.data = np.zeros(3, np.float32)
    page = parsed(module)
    assert heading(page) == "Linear 9 parameters, array_api_strict and numpy"
    assert listed(page)["without a title"] == {
        "weight": ["(3, 2)", "float32", "array_api_strict", "6"],
        "bias": ["(3,)", "float32", "numpy", "3"],
    }


def test_a_module_without_tensors_says_so():
    assert text(parsed(Module())) == "Module 0 parameters"


@given(st.integers(1, 3 * html.NAMES))
def test_of_a_long_list_the_middle_is_counted(count):
    module = Module()
    module.parts = [Parameter(np.zeros((i % 3, 2), np.float32)) for i in range(count)]
    rows = listed(parsed(module))["without a title"]
    hidden = [name for name in rows if name.startswith("⋮")]
    sizes = [int(cells[-1]) for cells in rows.values()]
    assert sum(sizes) == module.num_parameters
    assert hidden == ([f"⋮ {count - html.NAMES} more"] if count > html.NAMES else [])
    assert len(rows) == min(count, html.NAMES) + len(hidden)
    assert next(iter(rows)) == "parts.0" and list(rows)[-1] == f"parts.{count - 1}"


@given(st.text())
def test_whatever_stands_in_a_name_is_text(name):
    kind = type("K" + name.replace("\0", "").encode("utf-8", "ignore").decode(), (Module,), {})
    module = kind()
    module.parts = {name: Parameter([1.0])}
    page = parsed(module)
    visible = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)
    assert list(listed(page)["without a title"]) == [f"parts.{visible}"]
    assert {element.tag for element in page.iter()} <= {*"div p strong table thead tbody tfoot tr th td".split()}
    tensor = type(kind.__name__, (Tensor,), {})(np.zeros(2))
    assert heading(parsed(tensor)).endswith(" (2,), float64, numpy")
