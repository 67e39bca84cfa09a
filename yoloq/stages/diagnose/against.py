"""Layer by layer, one engine against another on the same images."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from yoloq.base.errors import EngineError
from yoloq.engines import ENGINES, get_engine
from yoloq.engines.base import Watch
from yoloq.engines.source import Source
from yoloq.measure.compare import ErrorSum, LayerError
from yoloq.quant.policy import check_patterns, matches
from yoloq.quant.trace import conv_inputs


@dataclass(frozen=True)
class NamedEngine:
    """An engine in one of its precisions, written `openvino-int8`."""

    engine: str
    precision: str

    def __str__(self) -> str:
        return f"{self.engine}-{self.precision}"


def read_engine(text: str) -> NamedEngine:
    """A variant from `<engine>-<precision>`; of an engine alone, int8.

    Raises:
        EngineError: the engine is not known or not installed, or does not run the precision on
            this machine's CPU.
    """
    whole = f"{text}-"  # an engine's name may have a hyphen too
    found = [name for name in ENGINES if whole.startswith(f"{name}-")]
    name = max(found, key=len, default=text.partition("-")[0])
    precision = text[len(name) + 1 :]
    engine = get_engine(name)
    precisions = engine.precisions("cpu")
    if (precision or "int8") not in precisions:
        known = ", ".join(f"{engine.name}-{each}" for each in precisions)
        raise EngineError(f"{text}: not one of {known}")
    return NamedEngine(engine.name, precision or "int8")


def compare_engines(
    source: Source,
    tested: NamedEngine,
    reference: NamedEngine,
    batches: Iterable[NDArray[np.uint8]],
    layers: Sequence[str] = ("*",),
    threads: int = 1,
    seed: int = 0,
) -> list[LayerError]:
    """Errors of convolutions' outputs in one engine against another, in forward order.

    What is measured is not quite what runs: asking for the output of a convolution keeps an engine
    from fusing it with its activation, which may then round at another place, and the last bits of
    float sums differ with the kernel. ONNX Runtime keeps these outputs in integers and is watched
    behind their rounding, where values that SiLU flattens are clipped: that counts as an error of
    the layer, and is gone behind it. The memory needed is that of the outputs for one image, twice.

    Args:
        source: the float model and its calibrated counterpart.
        tested: whose error is measured.
        reference: what it is measured against.
        batches: uint8 (N, imgsz, imgsz, 3) RGB images.
        layers: names or patterns of convolutions.
        threads: of either engine, 1 or more.
        seed: of the samples for the relative errors.

    Raises:
        PolicyError: a pattern matches no convolution (near names are listed), or the policy has
            activations that no engine's int8 can hold.
        EngineError: an engine is missing or cannot give intermediate outputs.
        ValueError: no image came.
    """
    names = list(conv_inputs(source.quantized.ops))
    check_patterns(layers, names)
    chosen = [name for name in names if any(matches(name, pattern) for pattern in layers)]
    watches = [open_engine(source, variant, chosen, threads) for variant in (tested, reference)]
    sums = {name: ErrorSum(name, seed + index) for index, name in enumerate(chosen)}
    images = 0
    for image in (batch[i : i + 1] for batch in batches for i in range(len(batch))):
        found, expected = (watch(image) for watch in watches)
        for name, total in sums.items():
            total.add(torch.from_numpy(expected[name]), torch.from_numpy(found[name]))
        images += 1
    if not images:
        raise ValueError("no image was compared")
    return [total.error() for total in sums.values()]


def open_engine(source: Source, variant: NamedEngine, layers: Sequence[str], threads: int) -> Watch:
    """Open an engine's network so that it gives the outputs of convolutions.

    Raises:
        EngineError: the engine is missing or cannot.
        PolicyError: no engine's int8 can hold the policy's activations.
    """
    engine = get_engine(variant.engine)
    if engine.intermediates is None:
        raise EngineError(f"{variant}: this engine gives no intermediate outputs; choose another")
    return engine.intermediates(source, variant.precision, layers, threads)
