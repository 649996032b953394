"""What all tests share: hypothesis profiles, the backends, and a watch on global state."""

from __future__ import annotations

import gc
import os
import signal

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # the tests run side by side; NumPy reads it when it is imported

import array_api_strict
import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from minigrad import backends, graph, random

_COMMON = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("ci", derandomize=True, max_examples=25, database=None, **_COMMON)
settings.register_profile("quick", derandomize=True, max_examples=8, database=None, **_COMMON)
settings.register_profile("long", max_examples=2000, **_COMMON)


def pytest_configure(config: pytest.Config) -> None:
    """The profile that the environment names; else a quick one for the inner loop, `-m "not slow"`."""
    default = "quick" if config.option.markexpr == "not slow" else "ci"
    settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", default))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # shells have their background programs ignore Ctrl-C


def pytest_collection_finish(session: pytest.Session) -> None:
    """What there is by now stays: the garbage collector, which many tests call, need not look at it again."""
    gc.collect()
    gc.freeze()


STRICT = backends.register(
    backends.Namespace("array_api_strict", array_api_strict, type(array_api_strict.asarray([0.0])))
)


def _gpu() -> bool:
    try:
        backends.get("cupy")
    except ImportError:
        return False
    return True


BACKENDS = ["numpy", "array_api_strict", *(["cupy"] if _gpu() else [])]


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    """Each backend of this machine by name. array_api_strict refuses what the standard does not promise."""
    return request.param


@pytest.fixture(autouse=True)
def no_leaks():
    """Every test starts from one seed, and leaves the settings of the process as it found them."""
    with random.seed(0):
        before = (graph.grad_enabled.get(), graph.watcher.get(), backends.current(), np.geterr())
        yield
        after = (graph.grad_enabled.get(), graph.watcher.get(), backends.current(), np.geterr())
    assert before == after


def pytest_terminal_summary(terminalreporter) -> None:
    if "cupy" not in BACKENDS:
        terminalreporter.write_line("no GPU with CuPy here: the tests ran on NumPy and array-api-strict")
