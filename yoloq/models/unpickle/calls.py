"""The names that a checkpoint may use: functions that are called, and classes that become stubs."""

import re
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from yoloq.models.unpickle.arrays import Array, Dtype, device_tensor, from_buffer, scalar
from yoloq.models.unpickle.storages import Storage, kind_of
from yoloq.models.unpickle.stub import FusedForward, RefusedError, Stub


class Call:
    """A function that the file may call, and whose attributes it cannot reach."""

    __slots__ = ("function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def __call__(self, *args: Any) -> Any:
        return self.function(*args)

    def __setstate__(self, state: Any) -> None:
        raise RefusedError("a change to a function")


def _tensor(storage: Any, offset: int, size: Any, stride: Any, *more: Any) -> Tensor:
    """A tensor; the last of `more`, where it is a dict, says that its numbers are to be negated.

    torch would let a storage grow to what a tensor claims.
    """
    if not isinstance(storage, Storage) or not _lies_in(storage, offset, size, stride):
        raise RefusedError("a tensor beyond its storage")
    tensor = torch.empty(0, dtype=storage.dtype).set_(storage.whole, offset, size, stride)
    negated = bool(more) and isinstance(more[-1], dict) and more[-1].get("neg")
    return -tensor if negated else tensor


def _lies_in(storage: Storage, offset: Any, size: Any, stride: Any) -> bool:
    """Whether a tensor's numbers are all in its storage; negative steps are not torch's."""
    if not (isinstance(size, tuple) and isinstance(stride, tuple) and len(size) == len(stride)):
        return False
    if not all(type(n) is int and 0 <= n < 2**48 for n in (offset, *size, *stride)):
        return False
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    return 0 in size or (last + 1) * storage.dtype.itemsize <= storage.whole.nbytes()


def _typed(function: Any, _: Any, args: Any, *__: Any) -> Any:
    """A tensor of a class of its own, or with attributes: the tensor alone."""
    if not isinstance(function, Call):
        raise RefusedError("a tensor by an unknown function")
    return function(*args)


def _latin1(text: str, _: str = "latin1") -> bytes:
    """Bytes, as pickle protocol 2 writes them."""
    return text.encode("latin1")


def _method(owner: Any, name: Any) -> FusedForward:
    """The one method that is pickled as an attribute, by YOLOv5's and the package's `fuse`.

    YOLOv5 called it `fuseforward` up to v5.0.
    """
    if not isinstance(owner, Stub) or name not in ("forward_fuse", "fuseforward"):
        raise RefusedError("'builtins.getattr'")
    return FusedForward(owner)


def check_key(key: Any) -> None:
    """Raise where something cannot be hashed at once: a tuple of tuples of the same tuples.

    Nor a number of more than 64 bits: all multiples of 2^61 - 1 have one hash.
    """
    flat = isinstance(key, tuple) and len(key) <= FLAT and all(isinstance(k, PLAIN) for k in key)
    if (not flat and isinstance(key, tuple | frozenset)) or abs(_whole(key)) >= 2**63:
        raise RefusedError(f"a {type(key).__name__} as a key")


def _whole(key: Any) -> int:
    return key if isinstance(key, int) else 0


FLAT, PLAIN = 16, (str, bytes, int, float, type(None))
HOLDERS = (list, tuple, dict, set, frozenset)


def _ordered(kind: Callable[..., Any]) -> Callable[..., Any]:
    """A list or a tuple of what another container holds."""

    def make(items: Any = ()) -> Any:
        if not isinstance(items, HOLDERS):
            raise RefusedError(f"a container of a {type(items).__name__}")
        return kind(items)

    return make


def _set(kind: Callable[..., Any]) -> Callable[..., Any]:
    def make(items: Any = ()) -> Any:
        found = LIST(items)
        for item in found:
            check_key(item)
        return kind(found)

    return make


def _dict(kind: Callable[..., Any]) -> Callable[..., Any]:
    """A dict of another, or of pairs."""

    def make(items: Any = ()) -> Any:
        pairs = items.items() if isinstance(items, dict) else LIST(items)
        for key, _ in pairs:
            check_key(key)
        return kind(pairs)

    return make


LIST = _ordered(list)
CONTAINERS: dict[str, Callable[..., Any]] = {
    "set": _set(set),
    "frozenset": _set(frozenset),
    "list": LIST,
    "tuple": _ordered(tuple),
    "dict": _dict(dict),
}


def _builtin(name: Any) -> Call:
    """dill's name of a builtin type, such as `set` or `SetType`."""
    plain = name.removesuffix("Type").lower() if isinstance(name, str) else ""
    if plain not in CONTAINERS:
        raise RefusedError(repr(name) if plain else "a type without a name")
    return Call(CONTAINERS[plain])


CALLS: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": lambda data, *_: data,
    "torch._utils._rebuild_parameter_with_state": lambda data, *_: data,
    "torch._utils._rebuild_device_tensor_from_numpy": device_tensor,
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": device_tensor,
    "torch._utils._rebuild_xla_tensor": device_tensor,
    "torch._tensor._rebuild_from_type_v2": _typed,
    "collections.OrderedDict": _dict(OrderedDict),
    "builtins.set": CONTAINERS["set"],
    "builtins.frozenset": CONTAINERS["frozenset"],
    "builtins.getattr": _method,
    "dill._dill._load_type": _builtin,
    "numpy.dtype": Dtype,
    "numpy.core.multiarray.scalar": scalar,
    "numpy._core.multiarray.scalar": scalar,
    "numpy.core.multiarray._reconstruct": Array,
    "numpy._core.multiarray._reconstruct": Array,
    "numpy.core.numeric._frombuffer": from_buffer,
    "numpy._core.numeric._frombuffer": from_buffer,
    "_codecs.encode": _latin1,
}
PREFIX = "yolov5."  # of the pip package, which holds the repository's own modules
STUBS = re.compile(
    r"""(yolov5\.)?models\.(common|yolo|experimental)\.\w+     # classic YOLOv5
    | (yolov5\.)?utils\.activations\.\w+                       # its activations before torch's
    | (yolov5\.)?utils\.torch_utils\.ModelEMA
    | ultralytics(\.\w+)+
    | torch\.nn\.modules\.\w+\.\w+
    | torch\.nn\.utils\.(prune|spectral_norm|weight_norm)\.\w+  # which their weights betray
    | torch\.nn\.parallel\.(data_parallel\.DataParallel|distributed\.DistributedDataParallel)
    | torch\.optim\.swa_utils\.AveragedModel
    | torch\.nn\.parameter\.(Parameter|Buffer) | torch\.(_tensor\.)?Tensor
    | torch\.(Size|device|(b?float|u?int|complex)\d+|bool)
    | numpy\.ndarray
    | argparse\.Namespace | types\.SimpleNamespace
    | pathlib\.(_local\.)?(Pure)?(Posix|Windows)?Path""",
    re.VERBOSE,
)


def resolve(module: str, name: str) -> Any:
    """What a pickled name stands for here.

    Raises:
        RefusedError: it is none of `CALLS` and `STUBS`.
    """
    module = "builtins" if module == "__builtin__" else module  # its name in protocol 2
    path = f"{module}.{name}"
    if path in CALLS:
        return Call(CALLS[path])
    if storage := kind_of(module, name):
        return storage
    if "." not in name and STUBS.fullmatch(path):
        attributes = {"path": path.removeprefix(PREFIX), "__module__": __name__}
        return type(name, (Stub,), attributes)
    raise RefusedError(repr(path))
