"""Ranges that follow the image against calibrated ones, on images that calibration did not see."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from record import Column, Figure, Found, Table
from subject import Subject, main
from torch import Tensor

from yoloq.data.loader import iterate
from yoloq.measure.ap import fidelity
from yoloq.measure.evaluate import join
from yoloq.measure.places import PlaceError
from yoloq.models.heads.decode import Candidates
from yoloq.models.to_input import to_input
from yoloq.quant.adaptive import DynamicQuantizer, SceneQuantizer, Scenes, adaptive
from yoloq.quant.calibrate import get_ranges
from yoloq.quant.observer import Collected, collect
from yoloq.quant.ptq import calibrate_model
from yoloq.quant.quantized import QuantizedModel
from yoloq.quant.trace import sibling_groups
from yoloq.stages.ptq import PtqConfig
from yoloq.stages.ptq.stage import calibration_images, read_policy

Pixels = NDArray[np.uint8]

IMAGES = 96  # of val
CALIBRATION = 32  # images of train, in every condition
BATCH = 8
CLIPPED = 1e-4
DARK, SIGMA, NOISE = 0.2, 3.0, 25.0  # part of the light, pixels, grey levels
BITS = (8, 4)  # of activations
COLUMNS = (
    Column("Activations"),
    Column("Images"),
    Column("Ranges"),
    Column("Fidelity", "{:.3f}"),
    Column("Error at boxes, 1e-4", "{:.1f}"),
)
HOW = (
    f"Simulated in PyTorch without repairs, asymmetric ranges, 8-bit weights; {IMAGES} images of "
    f"val, {CALIBRATION} of train to calibrate on. Each is compared with the float network on the "
    f"same images. Dark: {DARK} of the light; blurred: a Gaussian of {SIGMA:.0f} pixels; noisy: "
    f"normal noise of {NOISE:.0f} grey levels; all made on the letterboxed image, with a seed. "
    "`static` is calibrated on images as they are by the default calibrator, `static, places` by "
    "`places`, `static, all` on all four conditions, `scenes` "
    "once for each and chosen by brightness, contrast and sharpness of the image, `dynamic` from "
    f"the image's own values: its extremes, or all but {CLIPPED:.4%} of them.",
)


def dark(image: Pixels, random: np.random.Generator) -> Pixels:
    """An image with a part of the light."""
    return cv2.convertScaleAbs(image, alpha=DARK)


def blurred(image: Pixels, random: np.random.Generator) -> Pixels:
    """An image out of focus."""
    return cv2.GaussianBlur(image, (0, 0), SIGMA)


def noisy(image: Pixels, random: np.random.Generator) -> Pixels:
    """An image with a noisy sensor's grain."""
    grain = random.normal(0, NOISE, image.shape)
    return np.clip(image + grain, 0, 255).astype(np.uint8)


CONDITIONS: dict[str, Callable[[Pixels, np.random.Generator], Pixels]] = {
    "as they are": lambda image, random: image,
    "dark": dark,
    "blurred": blurred,
    "noisy": noisy,
}


def shifted(images: Pixels, condition: str, first: int) -> Pixels:
    """A batch (N, H, W, 3) in a condition; `first` is the number of its first image, the seed."""
    change = CONDITIONS[condition]
    made = [change(x, np.random.default_rng(first + i)) for i, x in enumerate(images)]
    return np.stack(made)


@dataclass(frozen=True)
class Variant:
    """A network and what is done to its quantizers while it runs."""

    quantized: QuantizedModel
    entered: Callable[[], AbstractContextManager[None]]

    def __call__(self, images: Tensor) -> list[NDArray[np.float32]]:
        with self.entered():
            return [raw.numpy() for raw in self.quantized.model.net(images)]


def measure(subject: Subject) -> Found:
    """A row for each number of bits, condition and kind of range."""
    collected = collect_conditions(subject)
    scenes = Scenes([torch.cat(list(batches(subject, c))) for c in CONDITIONS])
    rows: list[tuple[Any, ...]] = []
    for bits in BITS:
        variants = make_variants(subject, bits, collected, scenes)
        for condition in CONDITIONS:
            found = compare(subject, variants, condition)
            rows += [(f"{bits} bits", condition, name, *pair) for name, pair in found.items()]
    by_name = {row[:3]: row[3] for row in rows}
    figures = [
        Figure(
            f"{bits} bits, {condition}: fidelity by extremes - static",
            by_name[f"{bits} bits", condition, "dynamic, extremes"]
            - by_name[f"{bits} bits", condition, "static"],
            "{:+.3f}",
        )
        for bits in BITS
        for condition in CONDITIONS
    ]
    return Found(tuple(figures), (Table("Adaptive ranges", COLUMNS, tuple(rows)),), HOW)


def batches(subject: Subject, condition: str) -> Iterator[Tensor]:
    """Calibration images in a condition, as the network takes them."""
    config = subject.inputs.config
    assert isinstance(config, PtqConfig)
    chosen = calibration_images(subject.inputs, replace(config, images=_count(subject)))
    for batch in iterate(chosen, subject.inputs.imgsz, BATCH, config.workers):
        yield to_input(shifted(batch.images, condition, int(batch.index[0])))


def _count(subject: Subject) -> int:
    return min(CALIBRATION, subject.limit or CALIBRATION)


def collect_conditions(subject: Subject) -> dict[str, Collected]:
    """Statistics by condition; under `all` those of all conditions together."""
    model, groups = subject.inputs.model, sibling_groups(subject.inputs.ops)
    count = _count(subject)
    found = {c: collect(model.net, groups, batches(subject, c), count) for c in CONDITIONS}
    every = (batch for condition in CONDITIONS for batch in batches(subject, condition))
    return found | {"all": collect(model.net, groups, every, count * len(CONDITIONS))}


def make_variants(
    subject: Subject, bits: int, collected: Mapping[str, Collected], scenes: Scenes
) -> dict[str, Variant]:
    """Every kind of range at a number of bits."""
    config = subject.inputs.config
    assert isinstance(config, PtqConfig)
    config = replace(config, activation_bits=bits)
    policy, placement = read_policy(config, subject.inputs)
    made = {
        name: calibrate_model(
            subject.inputs.model, policy, each, config.calibrator, subject.inputs.ops, placement
        )[0]
        for name, each in collected.items()
    }
    static = made["as they are"]
    options = {"activation_bits": bits, "calibrator": "places", "images": _count(subject)}
    by_places = subject.quantized(refine=(), **options).quantized
    ranges = [get_ranges(made[condition].model.net) for condition in CONDITIONS]
    net = static.model.net

    @contextlib.contextmanager
    def by_scene() -> Iterator[None]:
        def make(name: str, quantizer: Any) -> SceneQuantizer:
            return SceneQuantizer(quantizer.spec, torch.stack([r[name] for r in ranges]), scenes)

        with scenes.watching(net), adaptive(net, placement, make):
            yield

    def dynamic(clipped: float) -> AbstractContextManager[None]:
        return adaptive(net, placement, lambda _, q: DynamicQuantizer(q.spec, clipped))

    return {
        "static": Variant(static, nullcontext),
        "static, places": Variant(by_places, nullcontext),
        "static, all": Variant(made["all"], nullcontext),
        "scenes": Variant(static, by_scene),
        "dynamic, extremes": Variant(static, lambda: dynamic(0.0)),
        "dynamic, percentile": Variant(static, lambda: dynamic(CLIPPED)),
    }


def compare(
    subject: Subject, variants: Mapping[str, Variant], condition: str
) -> dict[str, tuple[float, float]]:
    """Fidelity and error at the boxes of each variant on val in a condition."""
    inputs = subject.inputs
    images, head = inputs.images[:IMAGES], inputs.model.head
    errors = {name: PlaceError(head) for name in variants}
    boxes: dict[str, list[Candidates]] = {name: [] for name in ("float", *variants)}
    positions: list[int] = []
    with torch.inference_mode():
        for batch in iterate(images, inputs.imgsz, BATCH, inputs.config.workers):
            pixels = to_input(shifted(batch.images, condition, int(batch.index[0])))
            wanted = [raw.numpy() for raw in inputs.model.net(pixels)]
            boxes["float"] += inputs.boxes_of(wanted, batch.boxes)
            positions += batch.index.tolist()
            for name, variant in variants.items():
                raws = variant(pixels)
                errors[name].add(wanted, raws)
                boxes[name] += inputs.boxes_of(raws, batch.boxes)
    found = {name: join(each, positions, len(images)) for name, each in boxes.items()}
    return {
        name: (fidelity(found["float"], found[name], inputs.nc), 1e4 * errors[name].power)
        for name in variants
    }


if __name__ == "__main__":
    raise SystemExit(main("adaptive", measure))
