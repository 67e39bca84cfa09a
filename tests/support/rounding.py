"""How far apart two correct computations of one int8 network may be, on any CPU.

Sums of floats in another order, or in another type, move a value across a rounding boundary now and
then, and in a deep network everything behind it is then rounded anew: a CPU draws its own rounding
errors. So no figure of one CPU is an expectation for another. What holds on all of them:

- the error of one draw against the float network is that of any other, but for chance;
- two draws are apart by the errors of both, twice the error of one: 3 dB;
- an engine that rounds as many tensors again has twice the error itself: another 3 dB.

In a shallow network most images have no value at a boundary: `typical` asks what the middle one of
many says, which is the same to float accuracy, where a graph that computes another thing is off in
every image.

Chance: over eight seeds of 24 images the error of an engine, against that of the simulation, varied
by 1.3 dB from least to largest, over 3 images by 4 (tiny networks of both families, OpenVINO and
ONNX Runtime on an EPYC with VNNI).
"""

import statistics

import numpy as np
from numpy.typing import NDArray
from tiny_quant import pictures, signal_to_noise

MANY = pictures(24, seed=7)
CHANCE = 1.5  # dB, over these images
APART = 3.0  # dB between two draws
AGAIN = 3.0  # dB of as many roundings again


def typical(reference: list[NDArray[np.float32]], other: list[NDArray[np.float32]]) -> float:
    """Signal to noise of the middle image, in dB, of two lists of raw maps (N, C, H, W)."""
    each = [
        signal_to_noise([a[i : i + 1] for a in reference], [b[i : i + 1] for b in other])
        for i in range(len(reference[0]))
    ]
    return statistics.median(each)


def again(engine: str) -> float:
    """dB that an engine loses to the simulation.

    ONNX Runtime and LiteRT round the outputs of convolutions and of their sigmoids as well.
    """
    return AGAIN if engine in ("onnxruntime", "litert") else 0.0
