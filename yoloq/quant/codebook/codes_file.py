"""A coded network in a file: numbers of entries packed to their bits, tables in 16 bits.

An npz file that NumPy alone can read: `meta` (JSON: family, spec, names ...), for each coded weight
`numbers/<its name>` (uint8, packed) and `tables/<its name>`, and every other tensor of the network
under `plain/<its name>`.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from yoloq.base.errors import CheckpointError
from yoloq.base.files import replace_when_whole, sha256
from yoloq.base.npz import opened
from yoloq.base.own_files import MAKE
from yoloq.models.family import get_family
from yoloq.models.load import LoadedModel, fused, new_model
from yoloq.quant.bit_rows import pack, size_of, unpack
from yoloq.quant.codebook.coded import Coded

META = ("family", "spec", "names", "fused", "imgsz")
DAMAGES = (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError, RuntimeError)


def save_codes(file: Path, model: LoadedModel, codes: Mapping[str, Coded]) -> None:
    """Write a model whole.

    Args:
        model: with the weights that the codes stand for.
        codes: by convolution.
    """
    plain = model.net.state_dict()
    arrays: dict[str, Any] = {"meta": json.dumps({name: getattr(model, name) for name in META})}
    for name, code in codes.items():
        del plain[f"{name}.weight"]
        bits = (code.tables.shape[1] - 1).bit_length()
        arrays[f"numbers/{name}"] = pack(code.numbers.cpu().numpy(), bits)
        arrays[f"tables/{name}"] = code.tables.cpu().numpy()
    arrays |= {f"plain/{name}": tensor.cpu().numpy() for name, tensor in plain.items()}
    with replace_when_whole(file) as temporary, open(temporary, "wb") as stream:
        np.savez_compressed(stream, **arrays)


def load_codes(file: Path) -> LoadedModel:
    """The model that `save_codes` wrote: a float model like any other, the same to the last bit.

    Raises:
        CheckpointError: the file is missing, another one, or damaged.
    """
    try:
        with opened(file) as data:
            arrays = {name: data[name] for name in data.files}
        model = _restored(arrays)
    except OSError as error:
        reason = error.strerror or error
        raise CheckpointError(f"{file}: {reason}; make it with `{MAKE} codebook`") from None
    except DAMAGES as error:
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise CheckpointError(
            f"{file}: holds no coded model, or is damaged ({reason}); "
            f"make it again with `{MAKE} codebook`"
        ) from None
    return replace(model, sha256=sha256(file))


def _restored(arrays: Mapping[str, NDArray[Any]]) -> LoadedModel:
    meta = json.loads(str(arrays["meta"]))
    model = new_model(meta["family"], meta["spec"], tuple(meta["names"]))
    model = fused(model) if meta["fused"] else model
    shapes = {name: tensor.shape for name, tensor in model.net.state_dict().items()}
    tensors = _under("plain/", arrays)
    for name, tables in _under("tables/", arrays).items():
        weight = f"{name}.weight"
        numbers = numbers_of(arrays[f"numbers/{name}"], tables, shapes[weight])
        tensors[weight] = Coded(tables, numbers, shapes[weight]).weight
    model.net.load_state_dict(tensors)
    head = get_family(model.family).head(model.net)
    return replace(model, head=head, imgsz=meta["imgsz"])


def _under(prefix: str, arrays: Mapping[str, NDArray[Any]]) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): torch.from_numpy(array)
        for name, array in arrays.items()
        if name.startswith(prefix)
    }


def numbers_of(stored: NDArray[np.uint8], tables: Tensor, shape: torch.Size) -> Tensor:
    """Numbers (channels, runs) of the entries of a weight of that shape.

    Raises:
        ValueError: there are fewer or more.
    """
    entries, dim = tables.shape[1:]
    bits, runs = (entries - 1).bit_length(), -(-shape[1:].numel() // dim)
    count = shape[0] * runs
    if len(stored) != size_of(bits, count):
        raise ValueError(f"{len(stored)} bytes of numbers for {count} of {bits} bits")
    numbers = unpack(stored, bits, count, signed=False)
    return torch.from_numpy(numbers).long().view(shape[0], runs)
