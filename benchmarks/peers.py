"""Peers on the same FP32 ONNX and images: NNCF, ModelOpt, ONNX Runtime; accuracy and latency.

A peer only makes a model file, in an environment of its own; this one measures it with yoloq's
evaluation and in turn with yoloq's engines.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from accuracy import points
from latency import EngineFile, Load, Timed, time_models
from record import FOLDER, INTERVAL, SPREAD, Column, Found, Table
from subject import Subject, main

from yoloq.base.files import replace_when_whole, sha256, write_text
from yoloq.base.machine import affinity
from yoloq.base.own_files import ROOT
from yoloq.base.say import say
from yoloq.data.loader import iterate, sample
from yoloq.engines import get_engine
from yoloq.engines.openvino import core
from yoloq.engines.predictor import METADATA
from yoloq.engines.source import Source
from yoloq.graph.export import INPUT, export_float
from yoloq.stages.ptq import PtqConfig
from yoloq.stages.row import find

ENVIRONMENT = ROOT / ".venv-peers"
PYTHON = str(ENVIRONMENT / "bin" / "python")
REQUIREMENTS = FOLDER / "requirements-peers.txt"
OURS = "yoloq INT8"
COLUMNS = (
    Column("Model"),
    Column("Engine"),
    Column("AP", "{:.2f}"),
    Column("AP50", "{:.2f}"),
    Column("Delta", "{:+.2f}"),
    Column("95% interval", INTERVAL),
    Column("Fidelity", "{:.3f}"),
    Column("p50 ms", "{:.2f}"),
    Column("Against yoloq", "{:.2f}"),
    Column("Least to largest", SPREAD),
    Column("Quantizing, s", "{:.1f}"),
)
HOW = (
    "Peers got the same FP32 ONNX file (uint8 in, raw head out) and the same {images} calibration "
    "images, and leave the head's last convolutions in float, as yoloq does. Other settings are "
    "the peers' defaults, but ONNX Runtime's weights are per channel and ModelOpt, which writes "
    "for TensorRT, keeps FP32 rather than FP16. Every file was evaluated and timed by yoloq, its "
    "float layers in the same type; `against yoloq` is a row's time over that of yoloq's INT8 on "
    "the same engine."
)


@dataclass(frozen=True)
class Peer:
    """A quantized model of another tool; `make` writes its file and returns the seconds it took."""

    name: str
    engine: str
    file: str
    make: Callable[[Path], float]


def measure(subject: Subject) -> Found:
    """Accuracy and latency of every peer beside yoloq's engines."""
    prepare_environment()
    folder = subject.folder / "peers"
    source = subject.quantized()
    write_task(subject, source, folder)
    files, seconds, failures = own_files(subject, source), dict[str, float](), []
    for peer in PEERS:
        say(f"{peer.name}: quantizing")
        try:
            seconds[peer.name] = peer.make(folder)
            files[peer.name] = adopt(subject, peer, folder)
        except (RuntimeError, OSError, subprocess.SubprocessError) as error:
            failures.append(f"{peer.name} failed: {' '.join(str(error).split())[-300:]}")
    timed = time_files(subject, files)
    rows = [row(subject, name, file, timed, seconds) for name, file in files.items()]
    notes = (HOW.format(images=subject.calibration_images), timed.how, *failures)
    return Found(tables=(Table("Peers", COLUMNS, tuple(rows)),), how=notes)


def prepare_environment() -> None:
    """Make `.venv-peers` from the pinned versions, once."""
    stamp, wanted = ENVIRONMENT / ".ready", sha256(REQUIREMENTS)
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
        return
    say(f"peers: installing {REQUIREMENTS.name} into {ENVIRONMENT.name}")
    subprocess.run([sys.executable, "-m", "venv", ENVIRONMENT], check=True)
    install = [PYTHON, "-m", "pip", "install", "--quiet", "--requirement", str(REQUIREMENTS)]
    subprocess.run(install, check=True)
    write_text(stamp, wanted)


def write_task(subject: Subject, source: Source, folder: Path) -> None:
    """What a peer works on: the float graph, the images, and the nodes that stay in float."""
    config = subject.inputs.config
    assert isinstance(config, PtqConfig)
    exported = export_float(source.model.net, subject.info.imgsz)
    model, names = exported.model, exported.convolutions
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(model, folder / "fp32.onnx")
    chosen = sample(subject.inputs.dataset.images("train"), config.images, config.seed)
    batches = iterate(chosen, subject.info.imgsz, config.batch_size, config.workers)
    np.save(folder / "images.npy", np.concatenate([batch.images for batch in batches]))
    head = subject.quantized(float_first=0, refine=()).quantized.placement.float_layers
    nodes = [node.name for node in model.graph.node if node.op_type == "Conv"]
    kept = [node for name, node in zip(names, nodes, strict=True) if name in head]
    write_text(folder / "float.json", json.dumps(kept))


def own_files(subject: Subject, source: Source) -> dict[str, EngineFile]:
    """yoloq's engines, to compare with."""
    image, files = subject.inputs.images[0], {}
    for engine in ("openvino", "onnxruntime"):
        row = get_engine(engine)
        for precision in row.precisions("cpu"):
            file = row.make(source, precision, subject.folder)
            name = f"{OURS if precision == 'int8' else precision.upper()}, {engine}"
            files[name] = EngineFile(engine, precision, file, image)
    return files


def make_elsewhere(name: str, folder: Path) -> float:
    """Quantize in the peers' environment.

    Raises:
        RuntimeError: the peer failed; its last words.
    """
    command = [PYTHON, str(FOLDER / "peers_make.py"), name, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return float(done.stdout.split()[-1])


def make_onnxruntime(
    folder: Path, name: str = "onnxruntime-minmax.onnx", options: dict[str, Any] | None = None
) -> float:
    """ONNX Runtime's static quantization after its own preprocessing; it is in this environment.

    `options` are its extra options.
    """
    from onnxruntime.quantization import CalibrationMethod, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = folder / "prepared.onnx"
    began = time.perf_counter()
    quant_pre_process(folder / "fp32.onnx", prepared, skip_symbolic_shape=True)
    quantize_static(
        prepared,
        folder / name,
        _Reader(folder / "images.npy"),
        per_channel=True,
        nodes_to_exclude=json.loads((folder / "float.json").read_text(encoding="utf-8")),
        calibrate_method=CalibrationMethod.MinMax,
        extra_options=options,
    )
    return time.perf_counter() - began


class _Reader:
    """Images one by one, as ONNX Runtime's calibration asks for them."""

    def __init__(self, file: Path) -> None:
        self.images = iter(np.load(file))

    def get_next(self) -> dict[str, Any] | None:
        image = next(self.images, None)
        return None if image is None else {INPUT: image[None]}


PEERS = (
    Peer(
        "NNCF, PERFORMANCE (symmetric)",
        "openvino",
        "nncf-performance.xml",
        partial(make_elsewhere, "nncf-performance"),
    ),
    Peer(
        "NNCF, MIXED (asymmetric)",
        "openvino",
        "nncf-mixed.xml",
        partial(make_elsewhere, "nncf-mixed"),
    ),
    Peer("ONNX Runtime, MinMax", "onnxruntime", "onnxruntime-minmax.onnx", make_onnxruntime),
    Peer("ModelOpt, max", "openvino", "modelopt-max.onnx", partial(make_elsewhere, "modelopt-max")),
    Peer(
        "ModelOpt, entropy",
        "openvino",
        "modelopt-entropy.onnx",
        partial(make_elsewhere, "modelopt-entropy"),
    ),
)


def adopt(subject: Subject, peer: Peer, folder: Path) -> EngineFile:
    """Give a peer's file the metadata that yoloq's engines travel with."""
    made = folder / peer.file
    file = folder / f"adopted-{peer.file}"
    if peer.engine == "onnxruntime":
        model = onnx.load(made)
        onnx.helper.set_model_props(model, {METADATA: subject.info.to_json()})
        with replace_when_whole(file) as temporary:
            onnx.save(model, temporary)
    else:
        import openvino

        file = file.with_suffix(".xml")
        graph = core().read_model(made)
        graph.set_rt_info(subject.info.to_json(), METADATA)
        openvino.save_model(graph, file, compress_to_fp16=False)
    return EngineFile(peer.engine, "int8", file, subject.inputs.images[0])


def time_files(subject: Subject, files: dict[str, EngineFile]) -> Timed:
    """Time every file; a runtime's files in turn."""
    groups: dict[str, dict[str, Load]] = {}
    for name, file in files.items():
        groups.setdefault(file.engine, {})[name] = file
    return time_models(list(groups.values()), bool(subject.limit))


def row(
    subject: Subject, name: str, file: EngineFile, timed: Timed, seconds: dict[str, float]
) -> tuple[Any, ...]:
    """One line of the table."""
    predictor = get_engine(file.engine).load(file.file, file.precision, "cpu", len(affinity()))
    score = points(subject, find(subject.inputs, predictor))
    median, _ = timed.milliseconds(name)
    against = timed.ratio(name, f"{OURS}, {file.engine}")
    label = name.removesuffix(f", {file.engine}")
    return (label, file.engine, *score, median, *against, seconds.get(name))


if __name__ == "__main__":
    raise SystemExit(main("peers", measure))
