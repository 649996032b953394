"""What can go wrong, by name: every error is a `MinigradError` and also the built-in a user would catch."""


class MinigradError(Exception):
    """The family: `except mg.MinigradError` catches whatever minigrad itself raises."""


class ShapeError(MinigradError, ValueError):
    """Shapes that do not fit each other or the operation."""


class ArgumentError(MinigradError, ValueError):
    """A value that an argument cannot take."""


class DtypeError(MinigradError, TypeError):
    """A dtype, or a kind of object, that an operation cannot take."""


class OutOfRangeError(MinigradError, IndexError):
    """An index beyond the end of what it indexes."""


class OutOfMemoryError(MinigradError, MemoryError):
    """An array for which the computer, or the GPU, has no memory left."""

    def __init__(self, what: str, error: MemoryError):
        reason = " ".join(str(error).split()) or "no memory left"
        super().__init__(f"{what}: {reason}. A smaller batch needs less, and remat='sqrt' of a recurrent network")


class BackendMismatchError(MinigradError, TypeError):
    """Arrays of two backends in one operation; `.to()` moves one of them."""


class BackendUnavailableError(MinigradError, ImportError):
    """A backend that is not installed, or that has no device to run on."""


class MissingAttributeError(MinigradError, AttributeError):
    """An attribute that would be there, had a base class been initialised."""


class GraphError(MinigradError, RuntimeError):
    """A backward pass that cannot run: no graph, a graph already released, a cotangent missing."""


class RecordingError(MinigradError, RuntimeError):
    """Something in a step that a compiled loop cannot do, as it needs values before there are any."""


class InPlaceError(MinigradError, TypeError):
    """An attempt to write into a tensor; `where` and `index_update` make a new one instead."""


class AnomalyError(MinigradError, ArithmeticError):
    """The first NaN or infinity, found by `detect_anomaly()`: the operation and the line that made it."""


class FileFormatError(MinigradError, ValueError):
    """A file that is not what it should be."""


class MissingFileError(MinigradError, FileNotFoundError):
    """A file that is not there."""


class GradcheckError(MinigradError, AssertionError):
    """A gradient that differs from finite differences; the message is the report."""


class CellcheckError(MinigradError, AssertionError):
    """A cell that does not keep the contract of cells; the message is the report."""


class CheckpointError(MinigradError, ValueError):
    """A training that cannot be gone on with: there is none, or it is of another model or other settings."""
