"""Reading PyTorch files without running what they say.

A `.pt` file is a pickle, and a pickle is a program that may name any function and call it. This
unpickler knows a short list of names: tensors and plain data are rebuilt, classes of networks
become `Stub` objects that only hold their state, and any other name stops the reading before
anything is called. No class of the file is imported.
"""

import pickle
import re
import types
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from yoloq.base.errors import CheckpointError

# The first bytes of torch's format before 1.6: a pickle of its magic number.
LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."


class Stub:
    """Stands for an object of the file: `path` names its class, `state` holds its attributes."""

    path = ""
    args: tuple[Any, ...]
    state: dict[str, Any]

    def __new__(cls, *args: Any, **_: Any) -> "Stub":
        self = super().__new__(cls)
        self.args, self.state = args, {}
        return self

    def __init__(self, *_: Any, **__: Any) -> None:
        """Take whatever the real class takes; `__new__` has kept it."""

    def __setstate__(self, state: Any) -> None:
        self.state = state if isinstance(state, dict) else {}


def read(file: Path) -> Any:
    """The content of a `.pt` file: dicts, lists, numbers, strings, tensors and `Stub` objects.

    Reads torch's zip format and the one before 1.6.

    Raises:
        CheckpointError: the file is missing, damaged, of another kind, or names something that is
            not part of a detection checkpoint.
    """
    _check_kind(file)
    try:
        with open(file, "rb") as stream, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch looks in vain for the source of stub classes
            return torch.load(
                stream, map_location="cpu", weights_only=False, pickle_module=_PICKLE_MODULE
            )
    except _RefusedError as refused:
        raise CheckpointError(
            f"{file}: refused, because it asks to run or rebuild {refused}, which is no part of a "
            "detection checkpoint; use a file as YOLOv5, the ultralytics package or yoloq saves it"
        ) from None
    except Exception as error:  # a damaged pickle can raise anything
        reason = " ".join(str(error).split())[:120]
        raise CheckpointError(
            f"{file}: truncated or damaged ({type(error).__name__}: {reason}); fetch it again"
        ) from error


def _check_kind(file: Path) -> None:
    """Raise unless the file begins and ends like a file of `torch.save`."""
    if not file.exists():
        raise CheckpointError(f"{file}: no such file; check the path of the weights")
    if file.is_dir():
        raise CheckpointError(f"{file}: a folder; give the .pt file in it")
    if not file.is_file():
        raise CheckpointError(f"{file}: not a file; give the .pt file of a detector")
    with open(file, "rb") as stream:
        start = stream.read(len(LEGACY_MAGIC))
    if not start:
        raise CheckpointError(f"{file}: empty; fetch it again")
    if start == LEGACY_MAGIC:
        return
    if not start.startswith(b"PK\x03\x04"):
        raise CheckpointError(f"{file}: not a PyTorch checkpoint; give a .pt file of a detector")
    if not zipfile.is_zipfile(file):
        raise CheckpointError(f"{file}: truncated; fetch it again")
    with zipfile.ZipFile(file) as archive:
        members = {name.partition("/")[2] for name in archive.namelist()}
    if "constants.pkl" in members:
        raise CheckpointError(f"{file}: a TorchScript export; give the checkpoint it was made from")
    if "data.pkl" not in members:
        raise CheckpointError(f"{file}: a zip archive, but not a PyTorch checkpoint")


class _RefusedError(Exception):
    """A name that the file may not use."""


class _Call:
    """A function that the file may call, and whose attributes it cannot reach."""

    __slots__ = ("function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def __call__(self, *args: Any) -> Any:
        return self.function(*args)

    def __setstate__(self, state: Any) -> None:
        raise _RefusedError("a change to a function")


class _Dtype:
    """A numpy data type: its code, such as `f8`, and its byte order."""

    def __init__(self, code: str, *_: Any) -> None:
        self.code = code
        self.order: Literal["<", ">", "="] = "="

    def __setstate__(self, state: Any) -> None:
        self.order = state[1] if state[1] in ("<", ">") else "="


def _scalar(dtype: _Dtype, data: bytes = b"") -> Any:
    """A numpy scalar as a Python number."""
    kind = np.dtype(str(dtype.code))
    return np.frombuffer(data, kind.newbyteorder(dtype.order))[0].item()


def _tensor(storage: Any, offset: int, size: Any, stride: Any, *_: Any) -> Tensor:
    return torch._utils._rebuild_tensor(storage, offset, size, stride)


def _latin1(text: str, _: str = "latin1") -> bytes:
    """Bytes, as pickle protocol 2 writes them."""
    return text.encode("latin1")


CALLS: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": lambda data, *_: data,
    "torch._utils._rebuild_parameter_with_state": lambda data, *_: data,
    "collections.OrderedDict": OrderedDict,
    "builtins.set": set,
    "builtins.frozenset": frozenset,
    "numpy.dtype": _Dtype,
    "numpy.core.multiarray.scalar": _scalar,
    "numpy._core.multiarray.scalar": _scalar,
    "_codecs.encode": _latin1,
}
STUBS = re.compile(
    r"""models\.(common|yolo|experimental)\.\w+     # classic YOLOv5
    | utils\.activations\.\w+                       # its activations before torch had them
    | ultralytics(\.\w+)+
    | torch\.nn\.modules\.\w+\.\w+
    | torch\.(Size|device|(b?float|u?int|complex)\d+|bool)
    | numpy\.(ndarray|_?core\.multiarray\._reconstruct)
    | argparse\.Namespace | types\.SimpleNamespace
    | pathlib\.(_local\.)?(Pure)?(Posix|Windows)?Path""",
    re.VERBOSE,
)


class _Unpickler(pickle.Unpickler):
    """Resolves the names of `CALLS` and `STUBS`, and no others."""

    def find_class(self, module: str, name: str) -> Any:
        module = "builtins" if module == "__builtin__" else module  # its name in protocol 2
        path = f"{module}.{name}"
        if path in CALLS:
            return _Call(CALLS[path])
        if "." not in name and STUBS.fullmatch(path):
            return type(name, (Stub,), {"path": path, "__module__": __name__})
        raise _RefusedError(repr(path))


def _load(stream: Any, **options: Any) -> Any:
    return _Unpickler(stream, **options).load()


_PICKLE_MODULE = types.SimpleNamespace(__name__=__name__, Unpickler=_Unpickler, load=_load)
