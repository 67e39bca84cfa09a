"""Calibrators and repairs by how far boxes and scores are off, also on images left aside.

AP on a hundred images cannot tell these apart; the error at the boxes can.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from record import Column, Found, Table
from subject import Subject, main
from torch import nn

from yoloq.data.loader import iterate
from yoloq.measure.places import PlaceError
from yoloq.models.to_input import to_input
from yoloq.stages.ptq import PtqConfig
from yoloq.stages.ptq.stage import calibration_images

IMAGES = 160  # of each kind at most
BATCH = 4
Bits = tuple[str, dict[str, Any]]

EIGHT: Bits = ("8", {})
BITS: tuple[Bits, ...] = (
    EIGHT,
    ("6", {"activation_bits": 6}),
    ("4", {"activation_bits": 4}),
)
PLAIN = ("mse", "places", "mse-onesided", "lp", "kl-onesided")
REPAIRED: tuple[tuple[str, tuple[str, ...]], ...] = (
    *(("mse", ("gptq",)), ("places", ("gptq",))),
    *(("places", ("bias",)), ("places", ("gptq", "bias"))),
)
COLUMNS = (
    Column("Calibrator"),
    Column("Repairs"),
    Column("Bits of activations"),
    Column("Error on val", "{:.1f}"),
    Column("Error on others", "{:.1f}"),
)
HOW = (
    "Mean square of 1 - IoU plus that of the differences of scores, times 10,000, over the boxes "
    "that float PyTorch finds at 0.25 or more; simulated int8 against float on {images} images of "
    "val and {others} of train that were not calibrated on. 8-bit weights. Repairs weigh places by "
    "how far an error there moves boxes, whatever the calibrator.",
)


def measure(subject: Subject) -> Found:
    """A row for each calibrator and number of bits, and for each repair."""
    kinds = (subject.inputs.images[:IMAGES], others(subject)[:IMAGES])
    cases: list[tuple[str, tuple[str, ...], Bits]]
    cases = [(name, (), bits) for bits in BITS for name in PLAIN]
    cases += [(name, repairs, EIGHT) for name, repairs in REPAIRED]
    rows = []
    for calibrator, repairs, (bits, options) in cases:
        source = subject.quantized(calibrator=calibrator, refine=repairs, **options)
        assert source.quantized is not None
        found = [error(subject, source.quantized.model.net, files) for files in kinds]
        print(calibrator, *repairs, bits, *(f"{each:.1f}" for each in found if each), flush=True)
        rows.append((calibrator, " ".join(repairs) or "none", bits, *found))
    how = HOW[0].format(images=len(kinds[0]), others=len(kinds[1]))
    return Found((), (Table("Error at the boxes", COLUMNS, tuple(rows)),), (how,))


def others(subject: Subject) -> Sequence[Path]:
    """Images of train that nothing was chosen by."""
    config = subject.inputs.config
    assert isinstance(config, PtqConfig)
    used = set(calibration_images(subject.inputs, config))
    files = subject.inputs.dataset.images("train")
    return [file for file in files if file not in used]


def error(subject: Subject, net: nn.Module, files: Sequence[Path]) -> float | None:
    """Error of a network's boxes against the float network's, times 10,000; None: no image."""
    if not files:
        return None
    found, float_net = PlaceError(subject.inputs.model.head), subject.inputs.model.net
    with torch.inference_mode():
        for batch in iterate(files, subject.inputs.imgsz, BATCH, 0, []):
            x = to_input(batch.images, torch.device("cpu"))
            found.add(*([raw.numpy() for raw in each(x)] for each in (float_net, net)))
    return 1e4 * found.power


if __name__ == "__main__":
    raise SystemExit(main("box_error", measure))
