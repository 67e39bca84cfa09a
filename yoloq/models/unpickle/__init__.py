"""Reading PyTorch files without running what they say.

A `.pt` file is a pickle, and a pickle is a program that may name any function and call it. This
reader knows a short list of names: tensors and plain data are rebuilt, classes of networks become
`Stub` objects that only hold their state, and any other name stops the reading before anything is
called. No class of the file is imported. What a file may take of memory and time is held to its
size (`allowance`), so that torch's own reader, which takes what the file says, has no part in it.
"""

import contextlib
import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from yoloq.base.errors import CheckpointError
from yoloq.base.machine import raise_memory
from yoloq.models.unpickle.allowance import Allowance
from yoloq.models.unpickle.calls import resolve
from yoloq.models.unpickle.file_kind import PROTOCOL, check_kind
from yoloq.models.unpickle.legacy_file import read_legacy
from yoloq.models.unpickle.opcodes import Resolve
from yoloq.models.unpickle.shared import check_shared
from yoloq.models.unpickle.stub import RefusedError, Stub, TooMuchError
from yoloq.models.unpickle.zip_file import read_zip

__all__ = ["ForeignError", "Stub", "named_in", "read"]

LONGEST = 120  # characters of a name in a message
QUANTIZERS = ("torch.ao.", "torch.quantization.", "pytorch_quantization.", "modelopt.")


class ForeignError(CheckpointError):
    """The file names something that is not part of a detection checkpoint."""


def read(file: Path) -> Any:
    """The content of a `.pt` file: dicts, lists, numbers, strings, tensors and `Stub` objects.

    Reads torch's zip format and the one before 1.6.

    Raises:
        CheckpointError: the file is missing, damaged, of another kind, asks for more memory than
            its size explains, or names something that is not part of a detection checkpoint.
    """
    check_kind(file)
    try:
        content = _content(file, resolve)
        check_shared(content, file.stat().st_size)
        return content
    except RefusedError as refused:
        raise ForeignError(f"{file}: {_refusal(str(refused))}") from None
    except TooMuchError as much:
        raise CheckpointError(
            f"{file}: asks for more {much} than a checkpoint of its size has: it is damaged, or "
            "made to do harm; fetch it again from those who trained it"
        ) from None
    except Exception as error:  # a damaged pickle can raise anything
        raise_memory(error)
        reason = " ".join(str(error).split())[:120]
        raise CheckpointError(
            f"{file}: truncated or damaged ({type(error).__name__}: {reason}); fetch it again"
        ) from error


def named_in(file: Path) -> list[str]:
    """The names that a file's pickle uses, as far as it can be read; what is unknown is a Stub."""
    found: list[str] = []

    def note(module: str, name: str) -> Any:
        found.append(f"{module}.{name}")
        try:
            return resolve(module, name)
        except RefusedError:
            return type("Unknown", (Stub,), {"path": found[-1], "__module__": __name__})

    with contextlib.suppress(Exception):  # what is damaged says no more
        _content(file, note)
    return found


def _content(file: Path, find: Resolve) -> Any:
    with open(file, "rb") as stream:
        legacy = stream.read(1) == PROTOCOL
    with _no_collection():
        return (read_legacy if legacy else read_zip)(file, find, Allowance(file.stat().st_size))


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Keep Python from searching through all that was made so far, again and again."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


def _refusal(name: str) -> str:
    """Why a file that uses a name is refused, and what to do."""
    name = name if len(name) <= LONGEST else f"{name[:LONGEST]}..."
    if name.strip("'").startswith(QUANTIZERS):
        return (
            f"holds parts of a quantized model ({name}); give the float checkpoint that it was "
            "made from: yoloq quantizes that itself"
        )
    return (
        f"refused, because it asks for {name}, which is no part of a detection checkpoint; "
        "use a file as YOLOv5, the ultralytics package or yoloq saves it"
    )
