"""A calibrated model in as few bytes as its bits: integers packed, and nothing pickled.

An npz file of six arrays: `integers`, the weights of quantized convolutions, each tensor packed at
its own bits from a whole byte on (`bit_rows`); `amax`, the bound of each of their channels (their
scale is amax / qmax); `halves`, other weights as FP16; `floats`, biases and all else in FP32;
`ranges`, low and high of inputs and outputs; and `index`, a compressed JSON text with names,
shapes, bits and the policy.
"""

import json
import math
import zlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from yoloq.base.errors import CheckpointError, PolicyError
from yoloq.base.files import replace_when_whole
from yoloq.base.npz import opened
from yoloq.base.own_files import MAKE
from yoloq.models.load import describe, rebuilt
from yoloq.quant.affine import quantize, scale_and_zero_point
from yoloq.quant.bit_rows import pack, size_of, unpack
from yoloq.quant.calibrate import set_ranges
from yoloq.quant.modules import quantizers
from yoloq.quant.policy import Policy
from yoloq.quant.quantized import QuantizedModel, quantize_model
from yoloq.quant.quantizer import TensorQuantizer
from yoloq.quant.spec import QuantSpec

VERSION = 1
TYPES = {
    "integers": np.uint8,
    "amax": np.float32,
    "halves": np.float16,
    "floats": np.float32,
    "ranges": np.float32,
}
MOST_TEXT = 64 << 20  # bytes of the index; that of a YOLO11n has 60,000
DAMAGES = (
    *(OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError),
    *(RuntimeError, zlib.error),
)
SIDE = "_quantizer"  # `x.weight_quantizer` is that of `x.weight`

Arrays = Mapping[str, NDArray[Any]]


class _Writer:
    """Values that go into each array, one after another."""

    def __init__(self) -> None:
        self.parts: dict[str, list[NDArray[Any]]] = defaultdict(list)

    def put(self, array: str, values: Any) -> None:
        """Add values behind those that are there."""
        self.parts[array].append(np.asarray(values).ravel())

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All of them in their types."""
        return {
            name: np.concatenate(self.parts[name] or [np.zeros(0)]).astype(kind)
            for name, kind in TYPES.items()
        }


class _Reader:
    """Takes values from each array in the order in which they were put there."""

    def __init__(self, arrays: Arrays) -> None:
        self.arrays = arrays
        self.places: dict[str, int] = defaultdict(int)

    def take(self, array: str, shape: Sequence[int]) -> NDArray[Any]:
        """The next values, in a shape."""
        start, count = self.places[array], math.prod(shape)
        self.places[array] += count
        return self.arrays[array][start : start + count].reshape(shape)


def save_packed(file: Path, quantized: QuantizedModel) -> None:
    """Write a model whole.

    Raises:
        PolicyError: a weight in float is beyond FP16.
    """
    content = _bytes(packed(quantized))
    with replace_when_whole(file) as temporary:
        temporary.write_bytes(content)


def packed_size(quantized: QuantizedModel) -> int:
    """Bytes of the file that `save_packed` writes."""
    return len(_bytes(packed(quantized)))


def _bytes(arrays: Mapping[str, Any]) -> bytes:
    stream = BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def packed(quantized: QuantizedModel) -> dict[str, NDArray[Any]]:
    """The arrays of the file.

    Raises:
        PolicyError: a weight in float is beyond FP16; names it.
    """
    net, writer = quantized.model.net, _Writer()
    sides = quantizers(net)
    wide = {name for name, parameter in net.named_parameters() if parameter.ndim > 1}
    lines = [
        [name, list(tensor.shape), *_put(writer, name, tensor.cpu(), sides, name in wide)]
        for name, tensor in net.state_dict().items()
        if tensor.is_floating_point()  # others are counters, which training alone reads
    ]
    for side in _inputs(sides).values():
        assert side.low is not None and side.high is not None
        writer.put("ranges", [float(side.low), float(side.high)])
    writer.put("ranges", list(quantized.outputs.values()))
    index = {
        "yoloq": VERSION,
        "meta": describe(quantized.model),
        "policy": quantized.policy.to_json(),
        "tensors": lines,
        "outputs": list(quantized.outputs),
    }
    text = zlib.compress(json.dumps(index).encode(), 9)
    return writer.arrays() | {"index": np.frombuffer(text, np.uint8)}


def _inputs(sides: Mapping[str, TensorQuantizer]) -> dict[str, TensorQuantizer]:
    """The quantizers of activations."""
    return {name: side for name, side in sides.items() if not name.endswith(f"weight{SIDE}")}


def _put(
    writer: _Writer, name: str, tensor: Tensor, sides: Mapping[str, TensorQuantizer], wide: bool
) -> list[Any]:
    """Write a tensor; the end of its line in the index: the array, bits, shape of the scales."""
    side = sides.get(f"{name}{SIDE}")
    if side is not None:
        assert side.scale is not None and side.zero_point is not None and side.amax is not None
        integers = quantize(tensor, side.scale.cpu(), side.zero_point.cpu(), side.spec)
        writer.put("integers", pack(integers.numpy(), side.spec.bits))
        writer.put("amax", side.amax.cpu())
        return ["integers", side.spec.bits, list(side.amax.shape)]
    if not wide:
        writer.put("floats", tensor)
        return ["floats"]
    half = tensor.half()
    if not bool(half.isfinite().all()):
        raise PolicyError(f"{name}: is beyond FP16's 65504 and in float; quantize that layer")
    writer.put("halves", half)
    return ["halves"]


def load_packed(file: Path) -> QuantizedModel:
    """Read what `save_packed` wrote: integers, scales and ranges bit for bit, the rest as stored.

    Raises:
        CheckpointError: the file is another one, or damaged.
    """
    try:
        with opened(file) as data:
            arrays = {name: data[name] for name in (*TYPES, "index")}
        text = zlib.decompressobj().decompress(arrays["index"].tobytes(), MOST_TEXT)
        index = json.loads(text)
        if index["yoloq"] != VERSION:
            raise ValueError(f"is of version {index['yoloq']}, not {VERSION}")
        return _unpacked(index, arrays)
    except CheckpointError as error:
        raise CheckpointError(f"{file}: {error}") from None
    except DAMAGES as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(
            f"{file}: holds no packed model ({reason}); make it with `{MAKE} engine`"
        ) from None


def _unpacked(index: Mapping[str, Any], arrays: Arrays) -> QuantizedModel:
    reader, bounds = _Reader(arrays), {}
    tensors = {}
    for name, shape, array, *how in index["tensors"]:
        if array == "integers":
            bits, scales = how
            bound = torch.from_numpy(reader.take("amax", scales).copy())
            bounds[f"{name}{SIDE}"] = torch.stack([-bound, bound])
            tensors[name] = _weight(reader, shape, bits, bound)
        else:
            tensors[name] = torch.from_numpy(reader.take(array, shape).astype(np.float32))
    model = rebuilt(index["meta"], tensors)
    quantized = quantize_model(model, Policy.from_json(index["policy"]))
    for name in _inputs(quantizers(model.net)):
        bounds[name] = torch.from_numpy(reader.take("ranges", [2]).copy())
    set_ranges(model.net, bounds)
    pairs = {name: reader.take("ranges", [2]).tolist() for name in index["outputs"]}
    return replace(quantized, outputs={name: (low, high) for name, (low, high) in pairs.items()})


def _weight(reader: _Reader, shape: Sequence[int], bits: int, bound: Tensor) -> Tensor:
    """A weight from its integers and the bound of each channel."""
    count = math.prod(shape)
    packed_bytes = reader.take("integers", [size_of(bits, count)])
    integers = torch.from_numpy(unpack(packed_bytes, bits, count)).view(*shape)
    scale, _ = scale_and_zero_point(-bound, bound, QuantSpec(bits))
    return integers * (scale.view(-1, *[1] * (len(shape) - 1)) if scale.ndim else scale)
