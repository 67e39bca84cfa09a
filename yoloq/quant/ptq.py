"""From a float model to a calibrated one: the steps of PTQ, in order."""

import copy
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor, nn

from yoloq.base.errors import PolicyError, UserError
from yoloq.base.ranks import Share, by_all
from yoloq.base.say import progress, say
from yoloq.data.loader import check_read, share_of_batches
from yoloq.models.heads import Head
from yoloq.models.load import LoadedModel
from yoloq.models.to_input import to_input
from yoloq.quant.calibrate import DeadChannels, calibrate
from yoloq.quant.calibrators import CALIBRATORS
from yoloq.quant.influence import Counts, added, weigh
from yoloq.quant.observer import BINS, Collected, Seen, see, summed
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
    how = (model.net, groups, tuple(files), imgsz, batch_size, workers, seed)
    with progress("calibrate", len(files)) as advance:
        [shares] = by_all(_seen_of_share, *how, done=advance)
    skipped = sorted((file for _, unread in shares for file in unread), key=files.index)
    check_read(files, len(files) - len(skipped))
    try:
        collected = summed([seen for seen, _ in shares])
    except ValueError as error:
        raise UserError(f"{named}: calibration failed: {error}") from None
    if skipped:
        say(f"calibration: {len(skipped)} of {len(files)} images cannot be read: {skipped[0]}")
    if not BY_INFLUENCE.intersection(calibrators):
        return collected
    return _with_influence(model, collected, files[:INFLUENTIAL], imgsz, seed)


def _seen_of_share(
    share: Share,
    net: nn.Module,
    groups: list[list[str]],
    files: Sequence[Path],
    imgsz: int,
    batch_size: int,
    workers: int,
    seed: int,
) -> Iterator[tuple[Seen, list[Path]]]:
    """What a process sees of its share of the batches, and files that it cannot read, once."""
    device, skipped = next(net.parameters()).device, list[Path]()

    def batches() -> Iterator[tuple[int, Tensor]]:
        for batch in share_of_batches(files, imgsz, batch_size, workers, skipped, share):
            yield batch.number, to_input(batch.images, device)
            share.done(len(batch.images))

    yield see(net, groups, batches(), len(files), seed), skipped


def has_all(collected: Collected, calibrators: Iterable[str]) -> bool:
    """Whether statistics serve these calibrators."""
    lacking = any(not len(seen.influence) for seen in collected.inputs.values())
    return not (lacking and BY_INFLUENCE.intersection(calibrators))


def _with_influence(
    model: LoadedModel, collected: Collected, files: Sequence[Path], imgsz: int, seed: int
) -> Collected:
    """The statistics with histograms by influence; a pass forward and back, few images at once."""
    edges = {name: (seen.low, seen.high) for name, seen in collected.inputs.items()}
    with progress("influence", len(files)) as advance:
        given = (model.net, model.head, edges, tuple(files), imgsz, seed)
        [shares] = by_all(_influence_of_share, *given, done=advance)
    counts = added(shares)
    inputs = {
        name: replace(seen, influence=counts[name]) for name, seen in collected.inputs.items()
    }
    return replace(collected, inputs=inputs)


def _influence_of_share(
    share: Share,
    net: nn.Module,
    head: Head,
    edges: Mapping[str, tuple[float, float]],
    files: Sequence[Path],
    imgsz: int,
    seed: int,
) -> Iterator[list[Counts]]:
    """Histograms of a process's share of the batches, once."""
    device = next(net.parameters()).device

    def rounds() -> Iterator[Tensor | None]:
        """A batch whenever each process has one; None where this one's cannot be read."""
        own = share_of_batches(files, imgsz, INFLUENCE_BATCH, share=share)
        batch = next(own, None)
        for first in range(0, math.ceil(len(files) / INFLUENCE_BATCH), share.world):
            if batch is None or batch.number != first + share.rank:
                yield None
                continue
            yield to_input(batch.images, device)
            share.done(len(batch.images))
            batch = next(own, None)

    yield weigh(share, net, head, edges, rounds(), BINS, seed)


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
