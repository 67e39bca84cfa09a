"""What is measured: the official yolov5n on real images where they are, else the built-in set."""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import torch
import yaml
from record import RESULTS, Found, describe

from yoloq.base.config import StageConfig
from yoloq.base.errors import UserError
from yoloq.base.files import write_text
from yoloq.base.machine import affinity, environment
from yoloq.base.own_files import ROOT
from yoloq.base.result import StageResult
from yoloq.engines import get_engine
from yoloq.engines.predictor import ModelInfo, Predictor
from yoloq.engines.source import Source
from yoloq.geometry.detections import Detections
from yoloq.quant.refine.apply import batches_of, refine
from yoloq.stages.baseline import BaselineConfig
from yoloq.stages.baseline import stage as baseline
from yoloq.stages.ptq import PtqConfig
from yoloq.stages.ptq.stage import calibrated, calibration_images, read_policy
from yoloq.stages.row import BASELINE
from yoloq.stages.run import Inputs, open_inputs

C = TypeVar("C", bound=StageConfig)

COCO_MINI, CROPS = "YOLOQ_COCO_MINI", "YOLOQ_CROPS"
WORK = ROOT / "runs" / "bench"
CALIBRATION_IMAGES = 128


@dataclass(frozen=True)
class Subject:
    """A checkpoint and a data set; `coco_mini` is the folder of real images, or None.

    `only` has the rows of a part that are asked for; none: all.
    """

    name: str
    weights: Path
    data: Path
    coco_mini: Path | None
    limit: int
    only: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        """Where the files of the measurement go."""
        return WORK / (f"{self.name}-{self.limit}" if self.limit else self.name)

    def config(self, kind: type[C], **options: Any) -> C:
        """A stage's configuration for this subject."""
        return kind(
            weights=str(self.weights),
            data=str(self.data),
            device="cpu",
            project=str(WORK),
            name=self.folder.name,
            limit=self.limit,
            **options,
        )

    def flags(self, folder: Path) -> list[str]:
        """Command line of a stage for this subject, in a run folder."""
        where = ["--weights", str(self.weights), "--data", str(self.data), "--device", "cpu"]
        where += ["--project", str(folder.parent), "--name", folder.name]
        return [*where, "--limit", str(self.limit)]

    @cached_property
    def baseline(self) -> StageResult:
        """The FP32 baseline in PyTorch; measured where the run folder does not hold it."""
        return baseline.run(self.config(BaselineConfig))

    @cached_property
    def inputs(self) -> Inputs:
        """Model, data set and the images that can be read, with the defaults of PTQ."""
        images = min(CALIBRATION_IMAGES, self.limit or CALIBRATION_IMAGES)
        inputs = open_inputs(self.config(PtqConfig, images=images))
        return inputs.without([Path(name) for name in self.baseline.notes["skipped"]])

    @property
    def calibration_images(self) -> int:
        """How many images PTQ calibrates on."""
        config = self.inputs.config
        assert isinstance(config, PtqConfig)
        return config.images

    @property
    def info(self) -> ModelInfo:
        """What travels with an engine."""
        return ModelInfo(self.inputs.model.head, self.inputs.model.names, self.inputs.imgsz)

    @cached_property
    def reference(self) -> Detections:
        """Detections of the FP32 baseline."""
        assert self.baseline
        return Detections.load(self.folder / BASELINE)

    def quantized(self, **options: Any) -> Source:
        """Float and int8 model; `options` are those of PTQ that differ from the defaults."""
        config = self.inputs.config
        assert isinstance(config, PtqConfig)
        config = replace(config, **options)
        policy, placement = read_policy(config, self.inputs)
        chosen = calibration_images(self.inputs, config)
        model, _, _ = calibrated(self.inputs, config, policy, placement, chosen)
        if config.refine:
            inputs, steps = self.inputs, config.refine_steps
            batches = batches_of(chosen[: config.refine_images], inputs.imgsz, torch.device("cpu"))
            refine(inputs.model, model, batches, config.refine, steps=steps, seed=config.seed)
        return Source(self.info, self.inputs.model, model)

    def load(self, source: Source, engine: str, precision: str) -> Predictor:
        """Build an engine of this subject's model and open it on all cores."""
        row = get_engine(engine)
        file = row.make(source, precision, self.folder)
        return row.load(file, precision, "cpu", len(affinity()))


def find_subject(limit: int, built_in: bool) -> Subject:
    """The subject of this machine, or the built-in one.

    Raises:
        UserError: the folder of real images is named but not there.
    """
    named = os.environ.get(COCO_MINI)
    if not built_in and (crops := os.environ.get(CROPS)):
        return _with_its_checkpoint(Path(crops).resolve(), limit)
    if built_in or not named:
        weights, data = ROOT / "weights" / "yolov5n.pt", ROOT / "data" / "synthetic.yaml"
        return Subject("synthetic", weights, data, None, limit)
    folder = Path(named).resolve()
    if not (folder / "data.yaml").is_file():
        raise UserError(f"{COCO_MINI}={named}: holds no data.yaml; unset it or mend it")
    return Subject("coco-mini", folder / "yolov5n.pt", _with_json_labels(folder), folder, limit)


def _with_its_checkpoint(folder: Path, limit: int) -> Subject:
    """A data set with a checkpoint of its own beside its yaml."""
    found = sorted(folder.glob("*.pt"))
    if not (folder / "data.yaml").is_file() or len(found) != 1:
        raise UserError(f"{CROPS}={folder}: holds no data.yaml with one checkpoint beside it")
    return Subject("crops", found[0], folder / "data.yaml", None, limit)


def _with_json_labels(folder: Path) -> Path:
    """The real images' data yaml, with COCO's ground truth in the place of the txt labels.

    The published figures are of the json, which has crowd regions and unrounded boxes.
    """
    document = yaml.safe_load((folder / "data.yaml").read_text(encoding="utf-8"))
    document |= {"path": str(folder), "annotations": {"val": "annotations/dev.json"}}
    file = WORK / "coco-mini.yaml"
    write_text(file, yaml.safe_dump(document, sort_keys=False))
    return file


def main(
    part: str,
    measure: Callable[[Subject], Found],
    built_in: bool = False,
    only: Sequence[str] = (),
) -> int:
    """Run one part from the command line, write its result and print its figures.

    Args:
        built_in: take the built-in set even where real images are at hand.
        only: rows that can be asked for one by one; a result without the others is kept apart.
    """
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument("--limit", type=int, default=0, help="first N images only, to try it out")
    if only:
        parser.add_argument("--only", default="", help=f"some of {', '.join(only)}, by commas")
    options = parser.parse_args()
    limit, chosen = options.limit, tuple(filter(None, getattr(options, "only", "").split(",")))
    began = time.perf_counter()
    try:
        if unknown := [name for name in chosen if name not in only]:
            raise UserError(f"--only {unknown[0]}: not one of {', '.join(only)}")
        subject = replace(find_subject(limit, built_in), only=chosen)
        content = measure(subject).to_json()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    results = WORK / "limited" if limit or chosen else RESULTS
    file = results / subject.name / f"{part}.json"
    content = _about(part, subject) | content | {"seconds": time.perf_counter() - began}
    write_text(file, json.dumps(content, indent=1) + "\n")
    for figure in content["figures"]:
        print(describe(figure))
    print(f"{part}: {file}")
    return 0


def _about(part: str, subject: Subject) -> dict[str, Any]:
    inputs = subject.inputs
    return {
        "schema": 1,
        "part": part,
        "subject": {
            "name": subject.name,
            "weights": {"file": subject.weights.name, "sha256": inputs.model.sha256},
            "data": {"sha256": inputs.dataset.sha256, "images": len(inputs.images)},
            "imgsz": inputs.imgsz,
        },
        "environment": environment(),
    }
