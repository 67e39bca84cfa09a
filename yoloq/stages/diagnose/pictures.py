"""The pictures of a diagnosis: errors along the network, histograms with ranges, amax curves."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from yoloq.measure.compare import SNR_LIMIT, LayerError
from yoloq.quant.calibrators import CALIBRATORS
from yoloq.quant.policy import Placement
from yoloq.quant.quantizer import TensorQuantizer
from yoloq.quant.statistics import Statistics
from yoloq.report.plots import draw_curve, draw_errors, draw_histogram, merged
from yoloq.stages.diagnose.curve import amax_curve
from yoloq.stages.diagnose.figures import input_quantizers

FOLDER = "diagnose"
NOTED = 128  # bins of a histogram in the result
ALIKE = 0.01  # of amax: the calibrator's own, which sharing or QAT did not move


def draw_pictures(
    folder: Path,
    net: nn.Module,
    placement: Placement,
    errors: Sequence[LayerError],
    tensors: Mapping[str, Statistics],
    calibrator: str,
) -> list[str]:
    """Write `diagnose/errors.png` and a histogram of each tensor; returns their names.

    Args:
        folder: the run folder.
        net: with calibrated quantizers.
        tensors: statistics of what quantized convolutions read, by their names.
        calibrator: of layers whose rule names none.
    """
    names = [f"{FOLDER}/errors.png"]
    drawn = [e for e in errors if e.layer in placement.layers and e.snr < SNR_LIMIT]
    draw_errors(folder / names[0], drawn)
    quantizers = input_quantizers(net)
    for layer, statistics in tensors.items():
        used = placement.layers[layer].calibrator or calibrator
        bounds, chosen = _bounds(statistics, quantizers[layer], used)
        names.append(f"{FOLDER}/input-{layer}.png")
        draw_histogram(folder / names[-1], f"input of {layer}", statistics, bounds, chosen)
    return names


def histogram_notes(
    net: nn.Module, placement: Placement, tensors: Mapping[str, Statistics], calibrator: str
) -> list[dict[str, Any]]:
    """What the histograms show, as plain data, a layer each: for a report that draws them anew.

    `counts` (bins,) stand between `edges` (bins + 1,); `amax` is by calibrator, `used` one of them.
    """
    notes, quantizers = [], input_quantizers(net)
    for layer, statistics in tensors.items():
        used = placement.layers[layer].calibrator or calibrator
        bounds, chosen = _bounds(statistics, quantizers[layer], used)
        edges, counts = merged(statistics, NOTED)
        shown = {"edges": [float(f"{edge:.6g}") for edge in edges], "counts": counts.tolist()}
        notes.append({"layer": layer, **shown, "amax": bounds, "used": chosen})
    return notes


def _bounds(
    statistics: Statistics, quantizer: TensorQuantizer, used: str
) -> tuple[dict[str, float], str]:
    """amax of every calibrator, and which is in use; one set otherwise is `in use` itself."""
    bounds = {}
    for name, calibrator in CALIBRATORS.items():
        low, high = calibrator(statistics, quantizer.spec)
        bounds[name] = max(abs(low), abs(high))
    assert quantizer.amax is not None
    amax = float(quantizer.amax)
    if abs(amax - bounds[used]) <= ALIKE * amax:
        return bounds, used
    return bounds | {"in use": amax}, "in use"


def draw_curves(
    folder: Path,
    reference: nn.Module,
    groups: Sequence[Sequence[str]],
    net: nn.Module,
    layers: Sequence[str],
    batches: Callable[[], Iterator[Tensor]],
    images: int,
    calibrator: str,
    seed: int,
) -> list[str]:
    """Write `diagnose/images.png`, amax against the number of calibration images; its name.

    Args:
        reference: the float network.
        groups: its convolutions by the tensor that they read.
        net: its quantized counterpart.
        layers: quantized convolutions.
        batches: of the calibration images, as a network takes them.
        images: how many those are.
    """
    if not layers:
        return []
    spec = input_quantizers(net)[layers[0]].spec
    curves = amax_curve(reference, groups, layers, batches(), images, calibrator, spec, seed)
    name = f"{FOLDER}/images.png"
    draw_curve(folder / name, curves)
    return [name]
