"""How many calibration images a range needs: amax against the number of images."""

from collections.abc import Collection, Iterable, Sequence

import torch
from torch import Tensor, nn

from yoloq.quant.calibrators import CALIBRATORS
from yoloq.quant.observer import Observer, observed, sample_size
from yoloq.quant.spec import QuantSpec

Curve = list[tuple[int, float]]


def amax_curve(
    net: nn.Module,
    groups: Sequence[Sequence[str]],
    layers: Collection[str],
    batches: Iterable[Tensor],
    images: int,
    calibrator: str,
    spec: QuantSpec,
    seed: int = 0,
) -> dict[str, Curve]:
    """The amax that a calibrator chooses from the first 1, 2, 4, ... and from all images.

    One pass serves all points: the last is that of `statistics.collect` on the same batches, bit
    for bit, and each other one that of a collection whose batches end there and whose sample of an
    image is as large. A calibration that is told of fewer images draws more of each, so its range
    is the same where the extremes decide (`max`) and only close elsewhere.

    Args:
        net: the float network, in eval mode.
        groups: its convolutions by the tensor that they read (`trace.sibling_groups`).
        layers: convolutions; the range is of the tensor that each reads, before it is joined with
            others that share its scale.
        batches: (N, 3, H, W) floats as the network takes them.
        images: how many the batches are meant to hold together, as `collect` takes it.
        calibrator: a key of `CALIBRATORS`.
        spec: of the activations.
        seed: of the samples.

    Returns (images, amax) points by layer.

    Raises:
        ValueError: no batch came, or a tensor holds NaN or infinite values; names the layer.
    """
    observers = {
        group[0]: Observer(sample_size(images), seed + index)
        for index, group in enumerate(groups)
        if not set(layers).isdisjoint(group)
    }
    with torch.inference_mode(), observed(dict(net.named_modules()), observers, {}):
        for batch in batches:
            net(batch)
    curves = {name: _points(name, seen, calibrator, spec) for name, seen in observers.items()}
    first = {name: group[0] for group in groups for name in group}
    return {layer: curves[first[layer]] for layer in layers}


def _points(name: str, observer: Observer, calibrator: str, spec: QuantSpec) -> Curve:
    """The curve of one tensor."""
    points = []
    for count in _counts(observer.images):
        try:
            low, high = CALIBRATORS[calibrator](observer.statistics(count), spec)
        except ValueError as error:
            raise ValueError(f"input of {name}: {error}") from None
        points.append((count, max(abs(low), abs(high))))
    return points


def _counts(images: int) -> list[int]:
    """1, 2, 4, ... and the number itself."""
    return [2**power for power in range(images.bit_length()) if 2**power < images] + [images]
