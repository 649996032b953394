"""The plan of the house holds: who may import whom, what is documented, what lies at the top. Read from the source."""

from __future__ import annotations

import ast
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# From the cellar up; a room imports from its own floor and those below. A room that is yet to come is no error.
FLOORS = [
    ["errors", "tree", "backends", "html"],
    ["graph"],
    ["tensor", "ops"],
    ["random"],
    ["functional"],
    ["transforms"],
    ["scan"],
    ["ctc"],
    ["nn"],
    ["optim"],
    ["data"],
    ["io"],
    ["train"],
    ["dynamics"],
    ["check"],
    ["viz"],
]
FLOOR = {room: i for i, rooms in enumerate(FLOORS) for room in rooms}
WITHOUT_ARRAY_LIBRARIES = ["graph", "ops", "functional", "ctc", "transforms", "nn", "optim"]
WITH_CUPY = ["backends", "random", "scan"]

SOURCES = sorted((ROOT / "minigrad").rglob("*.py"))
ORACLES = sorted((ROOT / "tests" / "oracles").rglob("*.py"))


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def room(path: Path) -> str:
    """The room of a source: "nn" for minigrad/nn/cells/lstm.py; "" for minigrad/__init__.py, the front door."""
    parts = path.relative_to(ROOT / "minigrad").with_suffix("").parts
    return "" if parts == ("__init__",) else parts[0]


def imports(source: str, package: tuple[str, ...]) -> Iterator[str]:
    """The full names that a source in this package imports, wherever in it: modules, and the names out of modules."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            base += tuple(node.module.split(".")) if node.module else ()
            yield from (".".join((*base, alias.name)) for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("__import__", "importlib.import_module"):
            yield ast.literal_eval(node.args[0])


def imported(path: Path) -> set[str]:
    return set(imports(path.read_text(), path.relative_to(ROOT).parts[:-1]))


def libraries(path: Path) -> set[str]:
    return {full.partition(".")[0] for full in imported(path)}


def test_the_reader_of_imports_sees_every_kind_of_import():
    source = (
        "import numpy as np, os.path\nfrom . import init\nfrom ..errors import A, B\nfrom ... import ops\n"
        "def f():\n    from cupy.cuda import runtime\n    __import__('torch')\n    import importlib\n"
        "    importlib.import_module('jax.numpy')\n"
    )
    assert set(imports(source, ("minigrad", "nn", "cells"))) == {
        *("numpy", "os.path", "minigrad.nn.cells.init", "minigrad.nn.errors.A", "minigrad.nn.errors.B"),
        *("minigrad.ops", "cupy.cuda.runtime", "torch", "importlib", "jax.numpy"),
    }
    assert len(SOURCES) > 15 and len(ORACLES) > 1


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_imports_run_downwards_only(path):
    here = room(path)
    assert here == "" or here in FLOOR, f"{here} has no floor in the plan"
    for full in imported(path):
        top, _, rest = full.partition(".")
        if top != "minigrad" or not here:
            continue
        there = rest.partition(".")[0]
        assert there in FLOOR, f"{name(path)} imports {full} through the front door"
        assert FLOOR[there] <= FLOOR[here], f"{name(path)} imports {full}, which lies above it"


def test_the_one_knot_is_that_tensors_call_ops_and_ops_return_tensors():
    """On the floors with several rooms, only these two import each other."""
    edges = {
        (room(path), full.split(".")[1])
        for path in SOURCES
        if room(path)
        for full in imported(path)
        if "minigrad." in full
    }
    mutual = {frozenset(edge) for edge in edges if edge[0] != edge[1] and edge[::-1] in edges}
    assert mutual == {frozenset(["tensor", "ops"])}


def test_the_knot_is_tied_once_and_visibly():
    body = ast.parse((ROOT / "minigrad" / "tensor.py").read_text()).body
    knots = [node for node in body if isinstance(node, ast.ImportFrom) and "ops" in [a.name for a in node.names]]
    assert len(knots) == 1 and body[-1] is knots[0]


@pytest.mark.parametrize("path", [p for p in SOURCES if room(p) in WITHOUT_ARRAY_LIBRARIES], ids=name)
def test_formulas_are_written_for_every_array_library_and_import_none(path):
    assert not libraries(path) & {"numpy", "cupy", "scipy", "array_api_strict"}


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_cupy_is_known_in_few_rooms_and_other_frameworks_tests_and_models_in_none(path):
    assert "cupy" not in libraries(path) or room(path) in WITH_CUPY
    assert not libraries(path) & {"torch", "jax", "tensorflow", "autograd", "mygrad", "models", "tests", "pytest"}


@pytest.mark.parametrize("path", ORACLES, ids=name)
def test_an_oracle_imports_nothing_of_minigrad(path):
    assert not any(full.startswith(("minigrad", "models")) for full in imported(path))
    ours = {full for full in imported(path) if full.startswith("tests")}
    assert all(full.startswith("tests.oracles") for full in ours)


def exported() -> set[str]:
    """The names that the packages of minigrad offer."""
    doors = [path for path in SOURCES if path.name == "__init__.py"]
    return {full.rpartition(".")[2] for path in doors for full in imported(path)}


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_every_module_and_public_function_and_class_has_a_docstring(path):
    """A primitive that only a documented function calls needs none."""
    module = ast.parse(path.read_text())
    assert ast.get_docstring(module)
    offered = exported()
    for node in module.body:
        if not isinstance(node, (ast.FunctionDef, ast.ClassDef)) or node.name.startswith("_"):
            continue
        decorators = [ast.unparse(d).partition("(")[0] for d in node.decorator_list]
        inner = "primitive" in decorators and node.name not in offered
        if not inner and "overload" not in decorators:
            assert ast.get_docstring(node), f"{name(path)}:{node.lineno}: {node.name}"


def test_the_top_of_the_repository_holds_what_the_plan_says():
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a checkout")
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    top = {line.split("/")[0] for line in listed.splitlines()}
    allowed = {"pyproject.toml", "README.md", "LICENSE", "minigrad", "models", "tests", "tutorials"}
    assert {entry for entry in top if not entry.startswith(".")} <= allowed
    assert {"pyproject.toml", "README.md", "LICENSE", "minigrad", "tests"} <= top
