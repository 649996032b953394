"""Seeds: what they fix, for whom, and how long."""

from __future__ import annotations

import contextvars
import json
import threading

import numpy as np
import pytest

import minigrad as mg
from minigrad import random
from minigrad.errors import ArgumentError, DtypeError, ShapeError

DRAWS = {
    "uniform": lambda **options: mg.random.uniform((3, 2), **options),
    "normal": lambda **options: mg.random.normal((3, 2), **options),
    "orthogonal": lambda **options: mg.random.orthogonal((3, 2), **options),
    "reservoir": lambda **options: mg.random.reservoir(6, spectral_radius=0.9, density=0.8, **options),
    "bernoulli": lambda **options: mg.random.bernoulli(mg.zeros((64,), backend=options.get("backend")), 0.5),
}


@pytest.mark.parametrize("name", DRAWS)
def test_one_seed_gives_the_same_numbers_and_another_gives_others(name):
    def draw(seed):
        with mg.seed(seed):
            return DRAWS[name]().tolist(), DRAWS[name]().tolist()

    assert draw(1) == draw(1) != draw(2)
    first, second = draw(1)
    assert first != second


@pytest.mark.parametrize("name", ["uniform", "normal", "orthogonal", "reservoir"])
def test_every_backend_starts_from_identical_numbers(name, backend):
    with mg.seed(5):
        there = DRAWS[name](backend=backend)
    with mg.seed(5), mg.use(backend):
        followed = DRAWS[name]()
    with mg.seed(5):
        here = DRAWS[name]()
    assert there.backend == followed.backend == backend
    assert there.tolist() == followed.tolist() == here.tolist()


def test_a_seed_in_a_block_leaves_the_outer_stream_where_it_was():
    with mg.seed(1):
        expected = [mg.random.uniform((2,)).tolist() for _ in range(2)]
    with mg.seed(1):
        found = [mg.random.uniform((2,)).tolist()]
        with pytest.raises(KeyError), mg.seed(99):
            mg.random.uniform((100,))
            raise KeyError
        found.append(mg.random.uniform((2,)).tolist())
    assert found == expected


def test_a_seed_without_a_block_holds_from_there_on():
    mg.seed(4)
    first = mg.random.uniform((2,)).tolist()
    mg.seed(4)
    assert mg.random.uniform((2,)).tolist() == first


def test_a_thread_without_a_seed_draws_its_own_unpredictable_numbers():
    drawn = []
    for _ in range(2):
        thread = threading.Thread(target=lambda: drawn.append(mg.random.uniform((4,)).tolist()))
        thread.start()
        thread.join(10)
    assert drawn[0] != drawn[1] and len(drawn) == 2


@pytest.mark.parametrize("name", DRAWS)
def test_the_state_of_the_stream_goes_through_json_and_back(name):
    mg.random.uniform((3,))
    state = json.loads(json.dumps(random.get_state()))
    expected = DRAWS[name]().tolist()
    DRAWS[name]()
    random.set_state(state)
    assert DRAWS[name]().tolist() == expected


def test_a_state_that_was_taken_does_not_move_with_the_stream():
    state = random.get_state()
    before = json.dumps(state)
    mg.random.normal((5,))
    assert json.dumps(state) == before != json.dumps(random.get_state())


def test_to_set_the_state_inside_a_block_does_not_reach_outside():
    outside = random.get_state()
    with mg.seed(8):
        random.set_state(random.get_state())
        mg.random.normal((5,))
    assert random.get_state() == outside


def test_to_set_the_state_in_one_context_moves_no_stream_of_another():
    state = random.get_state()
    with mg.seed(8):
        other = random.get_state()
    contextvars.copy_context().run(random.set_state, other)
    assert random.get_state() == state != other


@pytest.mark.parametrize("name", ["uniform", "normal", "orthogonal"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_numbers_come_in_the_dtype_asked_for_and_need_no_gradient(name, dtype):
    x = DRAWS[name](dtype=dtype)
    assert x.dtype == dtype and x.shape == (3, 2) and not x.requires_grad
    assert DRAWS[name]().dtype == mg.float32


N = 20_000


def within(sample: np.ndarray, mean: float, std: float) -> bool:
    """Whether the sample's mean is within five of its standard deviations."""
    return abs(sample.astype(np.float64).mean() - mean) < 5 * std / np.sqrt(sample.size)


def test_uniform_numbers_fill_their_interval():
    x = mg.random.uniform((N,), -2.0, 4.0).numpy()
    assert x.min() >= -2 and x.max() < 4 and x.min() < -1.99 and x.max() > 3.99
    assert within(x, 1.0, 6 / np.sqrt(12)) and within((x - 1) ** 2, 3.0, np.sqrt(36**2 / 180))


def test_normal_numbers_have_their_mean_and_deviation():
    x = mg.random.normal((N,), 3.0, 0.5).numpy()
    assert within(x, 3.0, 0.5) and within(((x - 3) / 0.5) ** 2, 1.0, np.sqrt(2)) and within((x - 3) ** 3, 0.0, 0.5)


@pytest.mark.parametrize("p", [0.0, 0.25, 1.0])
def test_bernoulli_draws_booleans_of_this_probability_where_the_tensor_lives(p, backend):
    x = mg.random.bernoulli(mg.zeros((N // 100, 100), backend=backend), p)
    assert x.shape == (N // 100, 100) and x.backend == backend and x.numpy().dtype == bool
    assert abs(x.numpy().mean() - p) <= 5 * np.sqrt(p * (1 - p) / N)


@pytest.mark.parametrize("shape", [(4, 4), (5, 3), (3, 5), (1, 3), (1, 1)])
def test_orthogonal_matrices_have_orthonormal_rows_or_columns(shape):
    q = mg.random.orthogonal(shape, dtype="float64").numpy()
    product = q.T @ q if shape[0] >= shape[1] else q @ q.T
    assert np.abs(product - np.eye(min(shape))).max() < 20 * max(shape) * np.finfo(np.float64).eps


def test_orthogonal_matrices_have_no_preferred_sign():
    signs = np.array([np.sign(mg.random.orthogonal((2, 2)).numpy()) for _ in range(400)])
    assert np.abs(signs.mean(axis=0)).max() < 5 / np.sqrt(400)


def radius_of(matrix: np.ndarray) -> float:
    return float(np.abs(np.linalg.eigvals(matrix.astype(np.float64))).max())


@pytest.mark.parametrize("radius", [0.0, 1e-3, 0.9, 1.0, 30.0])
@pytest.mark.parametrize("size, density", [(1, 1.0), (7, 1.0), (40, 0.3), (150, 0.05)])
def test_a_reservoir_has_the_spectral_radius_that_was_asked_for(radius, size, density):
    w = mg.random.reservoir(size, spectral_radius=radius, density=density, dtype="float64")
    assert w.shape == (size, size) and w.dtype == mg.float64 and not w.requires_grad
    assert abs(radius_of(w.numpy()) - radius) <= 1e-10 * radius


@pytest.mark.parametrize("density", [0.02, 0.3, 1.0])
def test_of_a_reservoir_so_many_entries_are_not_0_and_those_are_normal(density):
    size = 140
    w = mg.random.reservoir(size, spectral_radius=1.0, density=density, dtype="float64").numpy()
    entries = w[w != 0]
    assert abs(entries.size / size**2 - density) <= 5 * np.sqrt(density * (1 - density) / size**2)
    scale = np.sqrt((entries**2).mean())  # whatever it is; of a normal number the fourth moment is 3, its variance 96
    assert abs(entries.mean() / scale) < 5 / np.sqrt(entries.size)
    assert abs((entries**4).mean() / scale**4 - 3) < 5 * np.sqrt(96 / entries.size)
    rows = (w != 0).sum(axis=1)  # spread over all rows and columns alike
    for counts in (rows, (w != 0).sum(axis=0)):
        assert np.abs(counts - size * density).max() <= 5 * np.sqrt(size * density * (1 - density))


def test_a_reservoir_without_a_cycle_is_refused_and_one_with_a_cycle_is_not():
    """An entry is a path of one step; whether there is a way back to where it began, powers of its pattern tell."""
    refused = 0
    for number in range(150):
        size = 3 + number % 10
        with mg.seed(number):
            stream = random.generator()
            stream.normal(size=(size, size))
            steps = ways = stream.random((size, size)) < 0.13
        for _ in range(size):
            ways = ways | (ways.astype(int) @ steps.astype(int) > 0)
        with mg.seed(number):
            if ways.diagonal().any():
                w = mg.random.reservoir(size, spectral_radius=0.7, density=0.13, dtype="float64").numpy()
                assert ((w != 0) == steps).all() and abs(radius_of(w) - 0.7) < 1e-7
            else:
                refused += 1
                with pytest.raises(ArgumentError, match="has no cycle that a signal could echo in"):
                    mg.random.reservoir(size, spectral_radius=0.7, density=0.13)
    assert 20 < refused < 130


@pytest.mark.parametrize(
    ("misuse", "error"),
    [
        (lambda: mg.random.reservoir(5, spectral_radius=0.9, density=0.0), ArgumentError),
        (lambda: mg.random.reservoir(5, spectral_radius=0.9, density=1.1), ArgumentError),
        (lambda: mg.random.reservoir(5, spectral_radius=0.9, density=float("nan")), ArgumentError),
        (lambda: mg.random.reservoir(5, spectral_radius=-0.9, density=0.5), ArgumentError),
        (lambda: mg.random.reservoir(5, spectral_radius=float("nan"), density=0.5), ArgumentError),
        (lambda: mg.random.reservoir(5, spectral_radius=0.9, density=0.5, dtype="float16"), DtypeError),
        (lambda: mg.random.orthogonal((3,)), ShapeError),
        (lambda: mg.random.uniform((2,), backend="abacus"), ArgumentError),
        (lambda: mg.random.uniform((2,), dtype="float16"), DtypeError),
    ],
)
def test_misuse_is_refused(misuse, error):
    with pytest.raises(error):
        misuse()
