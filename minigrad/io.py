"""Tensors in files, in the safetensors format: data only, nothing that could run, readable by other libraries."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from . import backends
from .errors import ArgumentError, DtypeError, FileFormatError, MissingFileError
from .tensor import Tensor

_KINDS = ("F32", "F64", "I32", "I64", "BOOL")  # the dtypes of tensors, as safetensors calls them


def save(path: str | os.PathLike[str], tensors: Mapping[str, Any], metadata: Mapping[str, str] | None = None) -> None:
    """Write named tensors (or arrays), such as `module.state_dict()`, and strings about them, to a file.

    An existing file is replaced only once the new one is complete. Its folder is made if it is not there. Raises
    DtypeError for what is no tensor, and for numbers of a kind that tensors do not have.

    >>> import minigrad as mg, tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp(), "weights.safetensors")
    >>> mg.io.save(path, {"w": mg.ones((2,))}, {"made by": "me"})
    >>> mg.io.load(path)
    ({'w': tensor([1., 1.])}, {'made by': 'me'})
    """
    from safetensors.numpy import save as serialize  # here, since it takes long to import

    if not isinstance(tensors, Mapping):
        raise DtypeError(f"save: expected a dict of tensors, got {type(tensors).__name__}; a module has .state_dict()")
    arrays = {}
    for name, value in tensors.items():
        array = value.data if isinstance(value, Tensor) else value
        if not isinstance(name, str) or not (backends.is_array(array) or isinstance(array, np.generic)):
            raise DtypeError(f"save: expected tensors by name, got {type(array).__name__} under {name!r}")
        backends.dtype_name(array.dtype)  # raises for one that tensors do not have
        arrays[name] = np.asarray(backends.namespace_of(array).to_numpy(array), order="C")
    for key, text in (metadata or {}).items():
        if not isinstance(key, str) or not isinstance(text, str):
            raise DtypeError(f"save: metadata holds strings, got {key!r}: {text!r}; json.dumps makes a string of data")
    path = os.path.realpath(path)
    if os.path.exists(path) and not os.path.isfile(path):
        raise ArgumentError(f"save: {path} is there and is no file that could be replaced")
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    part = f"{path}.{os.getpid()}.part"
    try:
        with open(part, "wb") as file:
            file.write(serialize(arrays, dict(metadata) if metadata else None))
        os.replace(part, path)
    except BaseException:
        if os.path.exists(part):
            os.remove(part)
        raise


def load(path: str | os.PathLike[str], backend: str | None = None) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors in a file by name, on `backend` or where `mg.use` says, and the strings stored with them.

    Raises FileNotFoundError, FileFormatError if it is no safetensors file, or DtypeError if it holds numbers of a kind
    that tensors do not have, such as bfloat16.
    """
    from safetensors import SafetensorError, safe_open

    if not os.path.exists(path):
        raise MissingFileError(f"there is no file {path}")
    namespace = backends.get(backend) if backend else backends.current()
    try:
        with safe_open(path, framework="numpy") as file:
            tensors = {}
            for name in file.keys():  # noqa: SIM118
                kind = file.get_slice(name).get_dtype()
                if kind not in _KINDS:
                    raise DtypeError(f"{path}: {name} is of the dtype {kind}, not one of {', '.join(_KINDS)}")
                tensors[name] = Tensor(backends.as_array(file.get_tensor(name), None, namespace))
            return tensors, file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise FileFormatError(f"{path} is not a complete safetensors file: {error}") from error
