"""The parts of a diagnosis: what is diagnosed, its figures, trials of other ranges, the search."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from yoloq.base.errors import UserError
from yoloq.base.machine import affinity, torch_device
from yoloq.base.say import progress, say
from yoloq.data.loader import iterate, sample
from yoloq.engines.source import Source
from yoloq.geometry.boxes import Letterbox
from yoloq.geometry.detections import Detections
from yoloq.graph.export import float_copy
from yoloq.measure.ap import fidelity
from yoloq.measure.compare import LayerError, compare
from yoloq.measure.evaluate import join
from yoloq.models.heads.decode import Candidates
from yoloq.models.layered import LayeredNet
from yoloq.models.to_input import to_input
from yoloq.quant.amax_by_hand import set_amax
from yoloq.quant.calibrate import get_ranges, set_ranges
from yoloq.quant.quantized import QuantizedModel
from yoloq.quant.statistics import Statistics
from yoloq.quant.switch import in_float
from yoloq.quant.trace import sibling_groups
from yoloq.stages.diagnose.against import NamedEngine, compare_engines
from yoloq.stages.diagnose.bisect import smallest_culprits
from yoloq.stages.diagnose.figures import Figures, gather
from yoloq.stages.diagnose.local import measure
from yoloq.stages.run import Inputs

BATCH = 4  # images; the outputs of a block for a batch are kept twice
MAX_TRIALS = 100  # of a bisection; 6 culprits among 60 layers take at most 80


@dataclass(frozen=True)
class Subject:
    """A quantized model and the images that it is diagnosed on.

    `reference` is its float network; `pixels` are uint8 (images, imgsz, imgsz, 3) in RGB.
    """

    inputs: Inputs
    quantized: QuantizedModel
    reference: LayeredNet
    groups: list[list[str]]
    pixels: NDArray[np.uint8]
    boxes: tuple[Letterbox, ...]

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        return torch_device(self.inputs.config.device)

    @property
    def net(self) -> LayeredNet:
        """The quantized network."""
        net = self.quantized.model.net
        assert isinstance(net, LayeredNet)
        return net

    @property
    def images(self) -> int:
        """How many images there are."""
        return len(self.pixels)

    def arrays(self) -> Iterator[NDArray[np.uint8]]:
        """Small batches of pixels."""
        for start in range(0, self.images, BATCH):
            yield self.pixels[start : start + BATCH]

    def batches(self, title: str, shown: bool = True) -> Iterator[Tensor]:
        """Small batches as a network takes them, under a progress bar."""
        with progress(title, self.images, shown=shown) as advance:
            for pixels in self.arrays():
                yield to_input(pixels, self.device)
                advance(len(pixels))

    @cached_property
    def wanted(self) -> Detections:
        """What the FP32 model detects."""
        net = self.inputs.model.net.to(self.device)
        assert isinstance(net, LayeredNet)
        return self._detect(net, "detect, fp32")

    def fidelity(self, title: str = "", shown: bool = True) -> float:
        """AP50-95 of the quantized network as it is now, with `wanted` as the truth."""
        return fidelity(self.wanted, self._detect(self.net, title, shown), self.inputs.nc)

    def _detect(self, net: LayeredNet, title: str, shown: bool = True) -> Detections:
        found: list[Candidates] = []
        with torch.inference_mode():
            for batch in self.batches(title, shown):
                raws = [raw.float().cpu().numpy() for raw in net(batch)]
                boxes = self.boxes[len(found) : len(found) + len(batch)]
                found += self.inputs.boxes_of(raws, boxes)
        return join(found, range(self.images), self.images)


def open_subject(
    inputs: Inputs, quantized: QuantizedModel, images: int, trained: bool = False
) -> Subject:
    """Draw images of val and load them.

    Args:
        trained: the model comes from QAT: its reference are its own weights in float, not the
            checkpoint's.

    Raises:
        DataError: none can be read.
    """
    config = inputs.config
    chosen = sample(inputs.images, images, config.seed)
    batches = list(iterate(chosen, inputs.imgsz, BATCH, config.workers))
    reference = float_copy(quantized.model.net if trained else inputs.model.net)
    assert isinstance(reference, LayeredNet)
    device = torch_device(config.device)
    quantized.model.net.to(device)
    return Subject(
        inputs,
        quantized,
        reference.to(device),
        sibling_groups(quantized.ops),
        np.concatenate([batch.images for batch in batches]),
        tuple(box for batch in batches for box in batch.boxes),
    )


def figures_of(
    subject: Subject, calibrated: Mapping[str, Statistics]
) -> tuple[Figures, dict[str, Statistics]]:
    """All figures, and the statistics of the images measured on."""
    seed = subject.inputs.config.seed
    batches = subject.batches("compare layers")
    errors = compare(subject.reference, subject.net, batches, seed)
    local, seen = measure(
        subject.reference,
        subject.net,
        subject.groups,
        subject.batches("each layer by itself"),
        subject.images,
        seed,
    )
    placement = subject.quantized.placement
    figures = gather(subject.net, placement, subject.groups, errors, local, seen, calibrated)
    return figures, seen


def try_amax(
    subject: Subject, chosen: Mapping[str, float], figures: Figures, before: float
) -> dict[str, Any]:
    """What ranges set by hand change; those of the model come back.

    Args:
        chosen: as `parse_amax` gives it.
        figures: of the model without them.
        before: its fidelity.

    Returns the changes; own SNR (dB) of the layers before and after, SNR of the last block, and
    fidelity.
    """
    ranges = get_ranges(subject.net)
    try:
        changes = set_amax(subject.net, subject.quantized.placement, chosen)
        layers = [layer for change in changes for layer in change.layers]
        after, _ = measure(
            subject.reference,
            subject.net,
            [],
            subject.batches("with --amax: each layer by itself"),
            subject.images,
            layers=layers,
        )
        batches = subject.batches("with --amax: compare layers")
        last = compare(subject.reference, subject.net, batches)[-1]
        value = subject.fidelity("with --amax: detect")
    finally:
        set_ranges(subject.net, ranges)
    own = {layer: [figures.local[layer].both, after[layer].both] for layer in layers}
    return {
        "changes": [asdict(change) for change in changes],
        "own_snr": own,
        "last": [last.layer, figures.errors[-1].snr, last.snr],
        "fidelity": [before, value],
    }


def bisect(subject: Subject, whole: float) -> dict[str, Any]:
    """The fewest layers that together cost half of the fidelity that all of them cost.

    Gives up after 100 trials: with so many culprits the loss is spread over the network.

    Args:
        whole: fidelity with all of them quantized.

    Raises:
        UserError: the float network is no better.
    """
    placement = subject.quantized.placement
    layers = [name for name, plan in placement.layers.items() if plan.quantized]
    threshold = (1 + whole) / 2

    def value(quantized: Sequence[str]) -> float:
        if len(quantized) == len(layers):
            return whole
        with in_float(subject.net, placement, set(layers) - set(quantized), subject.reference):
            return subject.fidelity(shown=False)

    found = {"threshold": threshold, "whole": whole}
    try:
        culprits, tried = smallest_culprits(layers, value, threshold, _report(len(layers)))
    except _SpreadError:
        return found | {"culprits": None, "tried": MAX_TRIALS}
    except ValueError as error:
        raise UserError(
            f"--bisect: fidelity is {error}; QAT moved the weights themselves"
        ) from None
    return found | {
        "culprits": list(culprits),
        "fidelity": dict(tried).get(culprits, 1.0),
        "tried": len(tried),
    }


class _SpreadError(Exception):
    """The bisection takes too many trials."""


def _report(layers: int) -> Callable[[Sequence[str], float], None]:
    trials = 0

    def tell(quantized: Sequence[str], value: float) -> None:
        nonlocal trials
        trials += 1
        names = f": {quantized[0]} to {quantized[-1]}" if quantized else ""
        say(f"bisect: {len(quantized)} of {layers} in int8{names}, fidelity {value:.3f}")
        if trials == MAX_TRIALS:
            raise _SpreadError

    return tell


def engines_apart(
    subject: Subject, tested: NamedEngine, reference: NamedEngine, layers: Sequence[str]
) -> list[LayerError]:
    """Errors of one engine's convolutions against another's."""
    inputs = subject.inputs
    source = Source(inputs.info, inputs.model, subject.quantized)
    with progress(f"{tested} against {reference}", subject.images) as advance:

        def arrays() -> Iterator[NDArray[np.uint8]]:
            for pixels in subject.arrays():
                yield pixels
                advance(len(pixels))

        return compare_engines(
            source,
            tested,
            reference,
            arrays(),
            layers or ("*",),
            len(affinity()),
            inputs.config.seed,
        )
