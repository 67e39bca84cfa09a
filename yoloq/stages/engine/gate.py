"""A gate behind every build: the engine's boxes and scores against those of its ONNX file.

TensorRT 11.2 can read a residual as if it were dense where it is a strided part of a Concat
(NVIDIA/TensorRT#4854): silently wrong values, which moved boxes while scores looked right. So
the two are compared apart, box by box at the same place of the same map, before anything is
measured, and for every engine: such defects are not TensorRT's alone.

The measure is how much the network itself minds rounding: the difference between its int8 and its
float ONNX on the level where it is largest. Two correct int8 engines round independently and may
be as far from each other as that; 16 bits move boxes by an eighth to a quarter of it. Measured with
OpenVINO, ONNX Runtime and PyTorch, as 1 - mean IoU of boxes and as mean difference of scores:

    yolov5n, eight photographs     boxes   scores     a random network     boxes   scores
    int8 ONNX against float        0.040    0.055                           0.26     0.49
    FP32 engines                   0.000    0.000                           0.00     0.00
    BF16 engines                   0.006    0.006                           0.06     0.12
    int8 engines                   0.029    0.025                           0.24     0.38

A residual of yolov5n that is read from the wrong channels, in one bottleneck of seven, moves boxes
by 0.15 to 0.54 (in the last one by 0.03 alone: less than int8 does). `TOLERANCE` lies between.

Ranges that an engine calibrates itself have no such bound: entropy's for every convolution move
scores of yolov5n beyond `TOLERANCE`, and the engine is as correct as any. So `int8-implicit` is
only warned of; its row shows what it loses.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yoloq.base.errors import EngineError
from yoloq.base.own_files import MAKE
from yoloq.base.result import Row
from yoloq.base.say import say, warn
from yoloq.data.loader import iterate
from yoloq.engines import packages
from yoloq.engines.options import DYNAMIC
from yoloq.engines.predictor import Predictor, by_one
from yoloq.graph.export import INPUT
from yoloq.measure.places import level_differences
from yoloq.models.heads import Head
from yoloq.stages.run import Inputs

FLOATS, OWN = "floats", "own ranges"
TOLERANCE = {  # times the network's own measure, and what is added to it, of IoU and of scores
    FLOATS: (0.5, 0.03),
    "int8": (2.0, 0.05),
    OWN: (4.0, 0.05),  # held against the float ONNX: its ranges are its own; a warning
}
FEW = 10  # boxes; a level with fewer says nothing
ANEW = f"build it anew: {MAKE} engine ARGS=--force"
OFF = 0.01  # AP; beyond the interval, a user wants to know

Raws = list[NDArray[np.float32]]


@dataclass(frozen=True)
class Difference:
    """How far one run of a network is from another on one level of its head.

    Attributes:
        stride: of the level.
        boxes: how many of the reference's boxes score 0.25 or more.
        moved: 1 - their mean IoU with the box at the same place; 0 where there are few.
        scores: mean difference of the scores that are 0.25 or more in either.
    """

    stride: int
    boxes: int
    moved: float
    scores: float


def differences(head: Head, reference: Raws, other: Raws) -> list[Difference]:
    """Compare raw maps (N, C, H, W) of the same images, level by level."""
    found = []
    for level, stride in enumerate(head.strides):
        ious, apart = level_differences(head, level, reference, other)
        moved = 1 - float(ious.mean()) if len(ious) >= FEW else 0.0
        scores = float(apart.mean()) if len(apart) >= FEW else 0.0
        found.append(Difference(stride, len(ious), moved, scores))
    return found


class Gate:
    """The references of a run: what its ONNX files give on a few images.

    Args:
        folder: the run folder.
        onnx: file names by key, as `write_onnx` gave them: `onnx-fp32`, `onnx-int8`, ...
        images: uint8 (N, imgsz, imgsz, 3).
        threads: of ONNX Runtime.
        simulated: what PyTorch makes of the int8 models that ONNX cannot hold, by such keys.
    """

    def __init__(
        self,
        head: Head,
        folder: Path,
        onnx: Mapping[str, str],
        images: NDArray[np.uint8],
        threads: int,
        simulated: Mapping[str, Predictor] | None = None,
    ) -> None:
        self.head = head
        self.images = images
        others = simulated or {}
        self.files = {**onnx, **dict.fromkeys(others, "its simulation in PyTorch")}
        self.raws = {key: run_onnx(folder / name, images, threads) for key, name in onnx.items()}
        self.raws |= {key: predictor(images) for key, predictor in others.items()}
        self._check_alike(folder)
        pairs = [key for key in self.raws if key != "onnx-fp32"]
        rounding = [differences(head, self.raws["onnx-fp32"], self.raws[key]) for key in pairs]
        levels = [item for each in rounding for item in each]
        self.moved = max((item.moved for item in levels), default=0.0)
        self.scores = max((item.scores for item in levels), default=0.0)

    def _check_alike(self, folder: Path) -> None:
        """Raise an EngineError where a reference is of another network than the rest."""
        shapes = {key: [raw.shape for raw in raws] for key, raws in self.raws.items()}
        first = shapes["onnx-fp32"]
        for key, found in shapes.items():
            if len(found) != len(self.head.strides) or found != first:
                raise EngineError(f"{folder / self.files[key]}: is of another network; {ANEW}")

    def check(
        self, engine: str, key: str, predictor: Predictor, own: bool = False, remedy: str = ""
    ) -> list[Difference]:
        """Hold one engine against the ONNX of its precision.

        Args:
            own: its ranges are its own, so that it is only warned of.
            remedy: what mends it; empty: what mends a build.

        Returns:
            How far it is off; empty where there is no such ONNX.

        Raises:
            EngineError: further than rounding explains, says in what and on which level; or a raw
                map is no numbers or nothing but 0, whoever calibrated.
        """
        explicit = key.startswith("int8") and not own
        name = f"onnx-{key}" if explicit else "onnx-fp32"
        if name not in self.raws:
            return []
        times, more = TOLERANCE["int8" if explicit else OWN if own else FLOATS]
        most = (times * self.moved + more, times * self.scores + more)
        raws = predictor(self.images)
        build = f"leave {key} out with --precisions, or try another version of {engine}"
        wrong = "it computes wrongly"
        end = f"{wrong}; {remedy}" if remedy else f"{wrong}, nothing was recorded; {build}"
        if text := _useless(self.head.strides, raws):
            raise EngineError(f"{engine} {key}: {text}: {end}")
        found = differences(self.head, self.raws[name], raws)
        # not `>`: a difference that is no number is a fault too
        far = [i for i in found if not (i.moved <= most[0] and i.scores <= most[1])]
        if far:
            text = f"{engine} {key}: {_far(self.files[name], far[0], most)}"
            if not own:
                raise EngineError(f"{text}: {end}")
            mends = "leave it out" if key == DYNAMIC else "try another --calibrator, --fp16-layers"
            warn(f"{text}: the ranges of its own are poor, or it computes wrongly; {mends}")
        return found


def _useless(strides: Sequence[int], raws: Raws) -> str:
    """Which raw map says nothing, and why; empty where all do."""
    for stride, raw in zip(strides, raws, strict=True):
        if not np.isfinite(raw).all():
            return f"its map of stride {stride} has NaN or Inf"
        if not raw.any():
            return f"its map of stride {stride} is 0 everywhere"
    return ""


def _far(file: str, item: Difference, most: tuple[float, float]) -> str:
    wrong = "boxes" if not item.moved <= most[0] else "scores"
    return (
        f"its {wrong} are not those of {file} (mean IoU {1 - item.moved:.2f} at stride "
        f"{item.stride}, expected {max(0.0, 1 - most[0]):.2f} or more; scores differ by "
        f"{item.scores:.2f}, expected {most[1]:.2f} or less)"
    )


def run_onnx(file: Path, images: NDArray[np.uint8], threads: int) -> Raws:
    """Raw maps of an ONNX file in ONNX Runtime on the CPU, its Q/DQ computed in float.

    Raises:
        EngineError: it is damaged, or is a graph of something else.
    """
    onnxruntime = packages.onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    try:
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        return by_one(lambda image: session.run(None, {INPUT: image}), images)
    except Exception as error:  # of a class of its own for each status
        reason = " ".join(str(error).split())[:300]
        raise EngineError(f"{file}: ONNX Runtime cannot run it ({reason}); {ANEW}") from None


def check_all(
    inputs: Inputs,
    engine: str,
    predictors: Mapping[str, Predictor],
    onnx: Mapping[str, str],
    count: int,
    threads: int,
    own: Collection[str] = (),
    simulated: Mapping[str, Predictor] | None = None,
) -> dict[str, Any]:
    """Let every engine of a run through the gate, and say how far they are off.

    Args:
        predictors: by key, such as `fp32`, `int8` or `int8-qat`.
        onnx: file names in the run folder by key.
        count: how many of the first val images; 0: no gate.
        own: keys of engines whose ranges are their own.
        simulated: as of `Gate`.

    Returns:
        By key the differences of each level as plain data.

    Raises:
        EngineError: an engine's boxes or scores are not those of its ONNX.
    """
    if not count:
        warn("--gate 0: no engine is held against its ONNX; leave it out before you ship one")
        return {}
    images = images_of(inputs, count)
    gate = Gate(inputs.model.head, inputs.config.folder, onnx, images, threads, simulated)
    found = {
        key: gate.check(engine, key, predictor, key in own) for key, predictor in predictors.items()
    }
    checked = {key: items for key, items in found.items() if items}
    if not any(item.boxes >= FEW for items in checked.values() for item in items):
        warn(
            f"no boxes on {count} val images: the engines are held against nothing; take more "
            f"images, such as --gate {4 * count}"
        )
    else:
        text = ", ".join(f"{key} {_summary(items)}" for key, items in checked.items())
        say(f"gate, IoU of boxes with those of the ONNX on {len(images)} images: {text}")
    return {key: [item.__dict__ for item in items] for key, items in checked.items()}


def images_of(inputs: Inputs, count: int) -> NDArray[np.uint8]:
    """The first val images, uint8 (N, imgsz, imgsz, 3)."""
    [batch] = iterate(inputs.images[:count], inputs.imgsz, count)
    return np.asarray(batch.images)


def _summary(items: Sequence[Difference]) -> str:
    return f"{1 - max(item.moved for item in items):.3f}"


def warn_if_off(rows: Sequence[Row], expected: Mapping[str, float]) -> None:
    """Say which rows' AP is further from what was expected than chance explains.

    Args:
        rows: of engines; the half width of a row's interval is what chance explains.
        expected: AP50-95 by precision, of the model that PyTorch runs or simulates.
    """
    for row in rows:
        wanted = expected.get(row.precision)
        if wanted is not None and row.map50_95 is not None:
            apart = row.map50_95 - wanted
            chance = (row.delta_ci95[1] - row.delta_ci95[0]) / 2
            if abs(apart) > OFF + chance:
                warn(
                    f"{row.name} ({row.engine}) has {100 * apart:+.2f} AP50-95 against "
                    f"the same model in PyTorch, more than the interval of +-{100 * chance:.2f} "
                    "explains: its boxes may be wrong on images that the gate has not seen; "
                    "--gate 64 --force looks at more"
                )
