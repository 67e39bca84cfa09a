"""How engines, rows and figures are called in sentences."""

from collections.abc import Sequence
from itertools import groupby

from yoloq.base.result import Row
from yoloq.quant.policy import block_of

ENGINES = {
    "openvino": "OpenVINO",
    "onnxruntime": "ONNX Runtime",
    "tensorrt": "TensorRT",
    "tensorrt-rtx": "TensorRT for RTX",
    "litert": "LiteRT",
    "ncnn": "ncnn",
    "torch": "PyTorch",
}
SIXTEEN = ("bf16", "fp16")
FLOATS = (*SIXTEEN, "fp32")
NAMED = 4  # layers that a sentence names


def engine_name(engine: str) -> str:
    """An engine as its makers write it."""
    return ENGINES.get(engine, engine)


def row_name(row: Row) -> str:
    """A row among those of several engines."""
    return f"{engine_name(row.engine)} {row.name}"


def points(fraction: float) -> str:
    """A loss or gain of AP in words: `0.1 points below FP32`."""
    size = round(100 * abs(fraction), 1)
    if not size:
        return "as accurate as FP32"
    return f"{size:.1f} points {'below' if fraction < 0 else 'above'} FP32"


def interval(ends: Sequence[float]) -> str:
    """An interval of a difference of AP, in points."""
    low, high = ends
    return f"95%: {100 * low:+.1f} to {100 * high:+.1f}"


def times(ratio: float, more: str, less: str) -> str:
    """`1.8 times faster`, `1.2 times slower` where the ratio is below 1, `no faster` at 1."""
    size, word = (ratio, more) if ratio > 1 else (1 / ratio, less)
    if size < 1.005:
        return f"no {more}"
    number = f"{size:.2f}" if size < 1.1 else f"{size:.1f}".removesuffix(".0")
    return f"{number} times {word}"


def in_float(layers: Sequence[str] | None, every: Sequence[str]) -> str:
    """Which convolutions are not in int8: `head in float`.

    Args:
        layers: those that are not.
        every: all in forward order where that is known, else none.
    """
    if not layers:
        return "every convolution in int8"
    blocks = [block for block, _ in groupby(sorted(layers, key=_place), key=block_of)]
    last = {max((block_of(name) for name in every), key=_number)} if every else set()
    if set(blocks) == last:
        return "head in float"
    share = f"{len(layers)} of {len(every)}" if every else str(len(layers))
    noun = "convolution" if share == "1" else "convolutions"
    named = ", ".join(blocks[:NAMED]) + (", ..." if len(blocks) > NAMED else "")
    return f"{share} {noun} in float ({named})"


def _place(name: str) -> tuple[int, str]:
    return _number(name), name


def _number(name: str) -> int:
    """The number of a block, as `model.24` has; -1 of a name without."""
    part = name.split(".")[1] if "." in name else ""
    return int(part) if part.isdecimal() else -1
