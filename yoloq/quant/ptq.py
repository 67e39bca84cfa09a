"""From a float model to a calibrated one: the steps of PTQ, in order."""

import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from yoloq.base.errors import PolicyError, UserError
from yoloq.base.say import progress, say
from yoloq.data.loader import iterate
from yoloq.models.load import LoadedModel
from yoloq.models.to_input import to_input
from yoloq.quant.calibrate import DeadChannels, calibrate
from yoloq.quant.calibrators import CALIBRATORS
from yoloq.quant.influence import influence
from yoloq.quant.observer import BINS, Collected, collect
from yoloq.quant.policy import Placement, Policy
from yoloq.quant.quantized import QuantizedModel, quantize_model
from yoloq.quant.trace import Op

BY_INFLUENCE = {"places", "lp"}  # calibrators that read it
INFLUENTIAL = 32  # images of which it is collected
INFLUENCE_BATCH = 4  # of them at once: a backward pass keeps every tensor of the forward pass


def check_calibrator(name: str) -> None:
    """Find a slip in the name of a calibrator.

    Raises:
        PolicyError: there is none of that name.
    """
    if name not in CALIBRATORS:
        raise PolicyError(f"calibrator {name!r}: not one of {', '.join(CALIBRATORS)}")


def collect_from_images(
    model: LoadedModel,
    files: Sequence[Path],
    imgsz: int,
    *,
    groups: list[list[str]],
    batch_size: int,
    workers: int = 0,
    seed: int = 0,
    named: str = "the model",
    calibrators: Iterable[str] = (),
) -> Collected:
    """One pass over calibration images, where the network is; shows its progress.

    Args:
        imgsz: side of the square in pixels.
        groups: of convolutions that read one tensor.
        workers: threads that decode; 0 decodes in the caller's.
        named: what an error calls the model.
        calibrators: that will read the statistics; one may need more of them than others.

    Raises:
        UserError: no image can be read, or the network gives numbers that are not finite.
    """
    device = next(model.net.parameters()).device
    skipped: list[Path] = []
    with progress("calibrate", len(files)) as advance:

        def batches() -> Iterator[Tensor]:
            for batch in iterate(files, imgsz, batch_size, workers, skipped):
                yield to_input(batch.images, device)
                advance(len(batch.images))

        try:
            collected = collect(model.net, groups, batches(), len(files), seed)
        except ValueError as error:
            raise UserError(f"{named}: calibration failed: {error}") from None
    if skipped:
        say(f"calibration: {len(skipped)} of {len(files)} images cannot be read: {skipped[0]}")
    if not BY_INFLUENCE.intersection(calibrators):
        return collected
    return _with_influence(model, collected, files[:INFLUENTIAL], imgsz, seed)


def has_all(collected: Collected, calibrators: Iterable[str]) -> bool:
    """Whether statistics serve these calibrators."""
    lacking = any(not len(seen.influence) for seen in collected.inputs.values())
    return not (lacking and BY_INFLUENCE.intersection(calibrators))


def _with_influence(
    model: LoadedModel, collected: Collected, files: Sequence[Path], imgsz: int, seed: int
) -> Collected:
    """The statistics with histograms by influence; a pass forward and back, few images at once."""
    device = next(model.net.parameters()).device
    edges = {name: (seen.low, seen.high) for name, seen in collected.inputs.items()}
    with progress("influence", len(files)) as advance:

        def batches() -> Iterator[Tensor]:
            for batch in iterate(files, imgsz, INFLUENCE_BATCH, 0, []):
                yield to_input(batch.images, device)
                advance(len(batch.images))

        counts = influence(model.net, model.head, edges, batches(), BINS, seed)
    inputs = {
        name: replace(seen, influence=counts[name]) for name, seen in collected.inputs.items()
    }
    return replace(collected, inputs=inputs)


def calibrate_model(
    model: LoadedModel,
    policy: Policy,
    collected: Collected,
    calibrator: str,
    ops: Sequence[Op] | None = None,
    placement: Placement | None = None,
) -> tuple[QuantizedModel, list[DeadChannels]]:
    """A quantized copy of a float model with ranges from statistics, and its dead channels.

    Args:
        collected: of a pass over calibration images.
        calibrator: a key of `CALIBRATORS`, for layers whose rule names none.
        ops, placement: of the network and the policy, where they are there already.

    Raises:
        PolicyError: a pattern of the policy matches no convolution, or the calibrator is not known.
    """
    check_calibrator(calibrator)
    own = replace(model, net=copy.deepcopy(model.net).cpu())  # its file opens on any machine
    quantized = quantize_model(own, policy, ops, placement)
    dead = calibrate(own.net, quantized.placement, collected.inputs, calibrator)
    return replace(quantized, outputs=collected.outputs), dead
