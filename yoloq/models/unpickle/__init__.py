"""Reading PyTorch files without running what they say.

A `.pt` file is a pickle, and a pickle is a program that may name any function and call it. This
unpickler knows a short list of names: tensors and plain data are rebuilt, classes of networks
become `Stub` objects that only hold their state, and any other name stops the reading before
anything is called. No class of the file is imported.
"""

import pickle
import types
import warnings
from pathlib import Path
from typing import Any

import torch

from yoloq.base.errors import CheckpointError
from yoloq.models.unpickle.calls import resolve
from yoloq.models.unpickle.file_kind import check_kind
from yoloq.models.unpickle.stub import RefusedError, Stub

__all__ = ["ForeignError", "Stub", "read"]

QUANTIZERS = ("torch.ao.", "torch.quantization.", "pytorch_quantization.", "modelopt.")


class ForeignError(CheckpointError):
    """The file names something that is not part of a detection checkpoint."""


def read(file: Path) -> Any:
    """The content of a `.pt` file: dicts, lists, numbers, strings, tensors and `Stub` objects.

    Reads torch's zip format and the one before 1.6.

    Raises:
        CheckpointError: the file is missing, damaged, of another kind, or names something that is
            not part of a detection checkpoint.
    """
    check_kind(file)
    try:
        with open(file, "rb") as stream, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch looks in vain for the source of stub classes
            return torch.load(
                stream, map_location="cpu", weights_only=False, pickle_module=_PICKLE_MODULE
            )
    except RefusedError as refused:
        raise ForeignError(f"{file}: {_refusal(str(refused))}") from None
    except Exception as error:  # a damaged pickle can raise anything
        reason = " ".join(str(error).split())[:120]
        raise CheckpointError(
            f"{file}: truncated or damaged ({type(error).__name__}: {reason}); fetch it again"
        ) from error


def _refusal(name: str) -> str:
    """Why a file that uses a name is refused, and what to do."""
    if name.strip("'").startswith(QUANTIZERS):
        return (
            f"holds parts of a quantized model ({name}); give the float checkpoint that it was "
            "made from: yoloq quantizes that itself"
        )
    return (
        f"refused, because it asks to run or rebuild {name}, which is no part of a detection "
        "checkpoint; use a file as YOLOv5, the ultralytics package or yoloq saves it"
    )


class _Unpickler(pickle.Unpickler):
    """Resolves the names of `calls.py`, and no others."""

    def find_class(self, module: str, name: str) -> Any:
        return resolve(module, name)


def _load(stream: Any, **options: Any) -> Any:
    return _Unpickler(stream, **options).load()


_PICKLE_MODULE = types.SimpleNamespace(__name__=__name__, Unpickler=_Unpickler, load=_load)
