"""What the linter finds for TensorRT in other tools' exports of the same network, and in ours.

Rules look at types, scales and where pairs stand, so a few images to calibrate on are enough.
"""

import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import onnx
from peers import make_elsewhere, make_onnxruntime, prepare_environment, write_task
from record import Column, Figure, Found, Table
from subject import Subject, main

from yoloq.base.say import say
from yoloq.engines.tensorrt.onnx import tensorrt_onnx
from yoloq.graph.export import export_float
from yoloq.graph.lint.lookup import OnnxView
from yoloq.graph.lint.table import RULES, LintFinding, lint
from yoloq.graph.lower import lower_minimal
from yoloq.stages.lint_onnx.stage import read_model

TARGET = "tensorrt"
IMAGES = 8
OURS = "yoloq, for TensorRT"
FOR_TENSORRT = {"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False}
HOW = (
    "Nodes concerned in the graph of each tool; a dash is none. All got the same FP32 ONNX file "
    f"(uint8 in, raw head out), {IMAGES} images to calibrate on, and the head's last convolutions "
    "to leave in float. ONNX Runtime: `quantize_static`, weights per channel, once as it comes and "
    "once with its options for TensorRT ({options}); NNCF: its ONNX backend; ModelOpt: max, once "
    "with FP32 and once with FP16 around the integers, its default. yoloq keeps the first two "
    "convolutions in float there. The rules are those of `make lint-onnx`; no engine was run."
)


def measure(subject: Subject) -> Found:
    """Counts by rule of every tool's graph."""
    prepare_environment()
    folder = subject.folder / "lint"
    write_task(subject, subject.quantized(refine=()), folder)
    np.save(folder / "images.npy", np.load(folder / "images.npy")[:IMAGES])
    models, failures = own_models(subject), []
    for name, (file, make) in PEERS.items():
        say(f"{name}: quantizing")
        try:
            make(folder)
            models[name] = read_model(folder / file)
        except (RuntimeError, OSError, subprocess.SubprocessError) as error:
            failures.append(f"{name} failed: {' '.join(str(error).split())[-300:]}")
    findings = {name: lint(model, TARGET) for name, model in models.items()}
    notes = (HOW.format(options=", ".join(f"{k}={v}" for k, v in FOR_TENSORRT.items())), *failures)
    return Found(figures(findings[OURS]), (table(models, findings),), notes)


def own_models(subject: Subject) -> dict[str, onnx.ModelProto]:
    """The export for TensorRT, and the Q/DQ file that any engine stage writes."""
    usual = {"sharing": "concat", "residual": "input", "symmetric": True, "float_first": 2}
    closed = subject.quantized(**usual, refine=())  # as `make ptq ENGINE=tensorrt` has it
    plain = subject.quantized(refine=())
    net = plain.net("int8")
    return {
        OURS: tensorrt_onnx(closed, "int8"),
        "yoloq, for OpenVINO": lower_minimal(export_float(net, subject.info.imgsz), net),
    }


def make_for_tensorrt(folder: Path) -> float:
    """ONNX Runtime's static quantization with the options that TensorRT needs."""
    return make_onnxruntime(folder, "onnxruntime-tensorrt.onnx", FOR_TENSORRT)


PEERS: dict[str, tuple[str, Callable[[Path], float]]] = {
    "ONNX Runtime": ("onnxruntime-minmax.onnx", make_onnxruntime),
    "ONNX Runtime, its options": ("onnxruntime-tensorrt.onnx", make_for_tensorrt),
    "NNCF": ("nncf-onnx.onnx", partial(make_elsewhere, "nncf-onnx")),
    "ModelOpt, FP32": ("modelopt-max.onnx", partial(make_elsewhere, "modelopt-max")),
    "ModelOpt, FP16": ("modelopt-fp16.onnx", partial(make_elsewhere, "modelopt-fp16")),
}


def figures(findings: list[LintFinding]) -> tuple[Figure, ...]:
    """Our export for the engine is to have no finding."""
    levels = [finding.level for finding in findings]
    return tuple(
        Figure(f"{OURS}: {level}s", levels.count(level), "{:.0f}", high=0)
        for level in ("error", "warning")
    )


def table(models: dict[str, onnx.ModelProto], findings: dict[str, list[LintFinding]]) -> Table:
    """A row for every rule that finds something, a column for every tool."""
    counts = {name: count(found) for name, found in findings.items()}
    rules = {rule.name: rule.level for rule in RULES if TARGET in rule.targets}
    rows = [("convolutions in int8", None, *(integers(model) for model in models.values()))]
    for rule, level in rules.items():
        row = [counts[name].get(rule) for name in models]
        if any(row):
            rows.append((rule, level, *row))
    return Table("Findings", (Column("Rule"), Column("Level"), *map(Column, models)), tuple(rows))


def count(findings: list[LintFinding]) -> dict[str, int]:
    """Nodes that each rule names."""
    return {
        finding.rule: sum(len(other.nodes) for other in findings if other.rule == finding.rule)
        for finding in findings
    }


def integers(model: onnx.ModelProto) -> int:
    """Convolutions whose input and weight are both quantized."""
    graph = OnnxView(model)
    return sum(map(graph.quantized, graph.convolutions))


if __name__ == "__main__":
    raise SystemExit(main("lint_peers", measure))
