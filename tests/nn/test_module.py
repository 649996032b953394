"""Modules: names, sharing, modes, saving and moving."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import minigrad as mg
from minigrad import backends, nn
from minigrad.errors import ArgumentError, DtypeError, MinigradError, ShapeError

from ..conftest import STRICT
from ..strategies import as_numpy


class Part(nn.Module):
    def __init__(self, size: int = 1):
        self.w = nn.Parameter(mg.full((size,), float(size)))
        self.scale = 2.0  # no tensor: no part of the state


class Whole(nn.Module):
    """Everything a module may hold, in an order that is not that of the alphabet."""

    def __init__(self):
        self.z = nn.Parameter(mg.zeros((2, 3)))
        self.parts = [Part(1), (Part(2), nn.Parameter(mg.ones((1,))))]
        self.by_name = {"b": Part(3), "a": nn.Parameter(mg.ones((2,)))}
        self.buffer = mg.arange(4)
        self.nothing = None
        self.again = self.parts[0]
        self.tied = self.z

    def forward(self, x):
        return x


NAMES = ["z", "parts.0.w", "parts.1.0.w", "parts.1.1", "by_name.b.w", "by_name.a"]


def values(module: nn.Module) -> dict[str, np.ndarray]:
    return {name: t.numpy().copy() for name, t in module.named_tensors().items()}


def test_parameters_are_named_by_their_place_in_order_of_assignment_and_shared_ones_once():
    module = Whole()
    assert [name for name, _ in module.named_parameters()] == NAMES
    assert [name for name, _ in module.named_parameters()] == [n for n in module.named_tensors() if n != "buffer"]
    assert list(map(id, module.parameters())) == [id(p) for _, p in module.named_parameters()]
    assert module.num_parameters == 6 + 1 + 2 + 1 + 3 + 2


def test_a_shared_module_is_walked_over_once():
    module = Whole()
    assert [type(m).__name__ for m in module.modules()] == ["Whole", "Part", "Part", "Part"]
    assert module.modules()[0] is module


def test_a_tensor_that_is_no_parameter_is_saved_and_moved_but_not_learned():
    module = Whole()
    assert "buffer" in module.state_dict()
    assert module.to(STRICT.name).buffer.backend == STRICT.name
    assert not module.buffer.requires_grad


def test_a_parameter_is_a_tensor_that_needs_a_gradient(backend):
    data = mg.ones((2,), backend=backend)
    p = nn.Parameter(data)
    assert isinstance(p, mg.Tensor)
    assert p.requires_grad
    assert (p.backend, p.tolist()) == (backend, [1.0, 1.0])
    assert not data.requires_grad
    assert nn.Parameter([1, 2]).dtype == mg.float32
    with pytest.raises(DtypeError, match="float"):
        nn.Parameter(mg.arange(3))


def test_a_parameter_of_a_computed_tensor_is_a_leaf():
    p = nn.Parameter(mg.ones((2,), backend="numpy") * nn.Parameter([3.0, 4.0]))
    p.sum().backward()
    assert p.grad.tolist() == [1.0, 1.0]


def test_a_parameter_assigned_anew_takes_the_place_of_the_old_one():
    module = Whole()
    module.z = nn.Parameter(mg.ones((5,)))
    assert dict(module.named_parameters())["z"].shape == (5,)
    module.z = None
    assert [name for name, _ in module.named_parameters()] == [*NAMES[1:], "tied"]


def test_train_and_eval_reach_every_module_and_nothing_else():
    module, other = Whole(), Whole()
    assert all(m.training for m in module.modules())
    assert module.eval() is module
    assert not any(m.training for m in module.modules())
    assert all(m.training for m in other.modules())
    assert module.train() is module
    assert all(m.training for m in module.modules())
    assert list(module.state_dict()) == list(other.state_dict())


def test_zero_grad_forgets_every_gradient():
    module = Whole()
    for p in module.parameters():
        p.sum().backward()
    assert all(p.grad is not None for p in module.parameters())
    module.zero_grad()
    assert all(p.grad is None for p in module.parameters())


def test_a_state_dict_is_a_snapshot_without_a_graph():
    module = Whole()
    state = module.state_dict()
    assert list(state) == list(module.named_tensors())
    assert not any(t.requires_grad for t in state.values())
    module.z.data = module.z.data + 1
    assert (state["z"].numpy() == 0).all()


@pytest.mark.parametrize("kind", ["tensors", "arrays", "float64", "other backend"])
def test_loading_a_state_takes_its_values_in_the_modules_dtypes_and_backend(kind, backend):
    source, target = nn.Linear(3, 2), nn.Linear(3, 2).to(backend)
    expected = values(source)
    given = {
        "tensors": source.state_dict,
        "arrays": lambda: expected,
        "float64": lambda: {k: v.astype("float64") for k, v in expected.items()},
        "other backend": lambda: nn.Module.to(source, STRICT.name).state_dict(),
    }[kind]()
    weight = target.weight
    target.load_state_dict(given)
    assert target.weight is weight
    for name, p in target.named_parameters():
        assert (p.backend, str(p.dtype).rpartition(".")[2], p.requires_grad) == (backend, "float32", True)
        assert (p.numpy() == expected[name]).all()


def test_a_loaded_state_shares_no_memory_with_the_module():
    module, given = nn.Linear(2, 2), {"weight": np.ones((2, 2), "float32"), "bias": np.ones(2, "float32")}
    module.load_state_dict(given)
    given["weight"][:] = 7
    assert (module.weight.numpy() == 1).all()


@pytest.mark.parametrize(
    "change, error, words",
    [
        (lambda s: s.pop("by_name.b.w"), ArgumentError, "by_name.b.w"),
        (lambda s: s.update(extra=mg.ones((1,))), ArgumentError, "extra"),
        (lambda s: s.update({"by_name.a": mg.ones((3,))}), ShapeError, r"by_name\.a.*\(2,\).*\(3,\)"),
        (lambda s: s.update({"by_name.a": np.array(["one", "two"])}), (MinigradError, ValueError), "one|number"),
    ],
    ids=["missing", "too many", "shape", "not numbers"],
)
def test_a_state_that_does_not_fit_is_refused_and_the_module_unchanged(change, error, words):
    module = Whole()
    state = {name: t + 1 for name, t in module.state_dict().items()}
    change(state)
    before = values(module)
    with pytest.raises(error, match=words):
        module.load_state_dict(state)
    for name, array in values(module).items():
        assert (array == before[name]).all(), name


def test_moving_a_module_moves_every_tensor_with_its_gradient_and_keeps_the_tensors_themselves():
    module = Whole()
    module.z.sum().backward()
    before = module.parameters()
    assert module.to(STRICT.name) is module
    assert all(p is q for p, q in zip(before, module.parameters()))
    assert {t.backend for t in module.named_tensors().values()} == {STRICT.name}
    assert module.z.grad.backend == STRICT.name
    assert (module.z.grad.numpy() == 1).all()
    assert module.parts[0].w.grad is None
    assert module.to("numpy").tied is module.z
    assert (module.z.grad.backend, module.z.backend) == ("numpy", "numpy")


def test_a_moved_module_still_learns(backend):
    layer = nn.Linear(2, 1).to(backend)
    layer(mg.ones((1, 2), backend=backend)).sum().backward()
    assert layer.weight.grad.tolist() == [[1.0, 1.0]]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["deepcopy", "pickle"])
def test_a_copy_has_its_own_parameters_with_the_same_sharing(copied):
    module = Whole().eval()
    clone = copied(module)
    assert [name for name, _ in clone.named_parameters()] == NAMES
    assert clone.tied is clone.z
    assert clone.again is clone.parts[0]
    assert not clone.training
    for p, q in zip(module.parameters(), clone.parameters()):
        assert p is not q
        assert type(q) is nn.Parameter
        assert q.requires_grad
        assert (p.numpy() == q.numpy()).all()
    clone.z.data = clone.z.data + 1
    assert (module.z.numpy() == 0).all()
    clone.z.sum().backward()
    assert module.z.grad is None


def test_a_module_prints_its_tensors_with_dtype_and_shape():
    lines = repr(Whole()).splitlines()
    assert lines[0] == "Whole(15 parameters)"
    assert "  z: float32[2, 3]" in lines
    assert "  buffer: int64[4]" in lines
    assert len(lines) == 1 + len(Whole().named_tensors())
    assert repr(nn.Linear(1000, 100)).startswith("Linear(100,100 parameters)")


def test_a_module_without_forward_says_so():
    with pytest.raises(ArgumentError, match="Part defines no forward"):
        Part()(1)


def test_a_call_hands_on_every_argument():
    class Echo(nn.Module):
        def forward(self, *args, **kwargs):
            return args, kwargs

    assert Echo()(1, 2, word=3) == ((1, 2), {"word": 3})


def test_a_reference_back_to_the_parent_is_followed_once():
    parent, child = nn.Module(), nn.Linear(2, 1)
    parent.child, child.parent = child, parent
    assert list(parent.named_tensors()) == ["child.weight", "child.bias"]
    assert parent.modules() == [parent, child]


def test_astype_changes_the_floats_and_their_gradients_and_leaves_integers_names_and_sharing(backend):
    class Mixed(nn.Module):
        def __init__(self):
            self.layer = nn.Linear(2, 1)
            self.tied, self.count = self.layer.weight, mg.tensor([1, 2], dtype="int64")

    module = Mixed().to(backend)
    module.layer(mg.ones((1, 2), backend=backend)).sum().backward()
    names, before = list(module.state_dict()), as_numpy(module.layer.weight)
    assert module.astype("float64") is module
    dtypes = {name: backends.dtype_name(value.dtype) for name, value in module.named_tensors().items()}
    assert dtypes == {"layer.weight": "float64", "layer.bias": "float64", "count": "int64"}
    assert backends.dtype_name(module.layer.weight.grad.dtype) == "float64"
    assert list(module.state_dict()) == names and module.tied is module.layer.weight
    assert (as_numpy(module.layer.weight) == before).all() and module.layer.weight.backend == backend
    with pytest.raises(DtypeError, match="float32 or float64, not int64"):
        module.astype(mg.int64)


def test_a_state_of_other_names_or_kinds_is_refused_by_the_names_that_matter():
    layer, prefixed = nn.Linear(2, 1), {f"m.{n}": np.ones(3) for n in "abcdefghijk"}
    with pytest.raises(ArgumentError, match=r"not that of a Linear: it has foo too many$"):
        layer.load_state_dict({**layer.state_dict(), "foo": np.ones(1)})
    with pytest.raises(ArgumentError, match=r"it lacks bias, weight, and it has m.a, .* m.h and 3 more too many$"):
        layer.load_state_dict(prefixed)
    with pytest.raises(DtypeError, match="bias is a list, expected a tensor or an array"):
        layer.load_state_dict({**layer.state_dict(), "bias": [0.0]})
