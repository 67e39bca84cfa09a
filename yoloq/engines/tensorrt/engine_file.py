"""Building an engine file: the plan, what travels with it, and what the library had to say."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from yoloq.base.files import sha256_text
from yoloq.base.say import warn
from yoloq.engines.source import Graph
from yoloq.engines.tensorrt.bindings import logger, one_line
from yoloq.engines.tensorrt.job import calibrator_of, check_options
from yoloq.engines.tensorrt.layer_log import read_layer_log
from yoloq.engines.tensorrt.library import Library
from yoloq.engines.tensorrt.manifest import Manifest, Target, write_engine
from yoloq.engines.tensorrt.plan import build_plan

LISTED = 3  # warnings of TensorRT's that are shown behind a build


def build_file(library: Library, graph: Graph, folder: Path, target: Target) -> Path:
    """Build an engine for a target into a folder.

    Raises:
        EngineError: the library cannot be used or cannot build the network; says why.
    """
    source, precision = graph.source, graph.precision
    trt = library.load()
    check_options(library, precision, source.options)
    messages = logger(trt).messages
    messages.take_warned()
    onnx = graph.model.SerializeToString()
    plan = build_plan(library, source, precision, onnx, source.caches or folder, target)
    _tell(library, precision, messages.take_warned())
    file = folder / f"{library.engine}-{precision}.engine"
    layers = [] if target.measures else [asdict(each) for each in read_layer_log(messages.layers)]
    write_engine(library, file, manifest(library, graph, target, layers), plan)
    return file


def _tell(library: Library, precision: str, warned: Mapping[str, int]) -> None:
    """Print how many warnings the library gave, and the first ones, each once."""
    if warned:
        first = [f"  {one_line(text)}" for text in warned][:LISTED]
        title = f"{library.engine} {precision}: {library.title} gave {sum(warned.values())}"
        last = "  what matters of them shows in the gate and in the list of layers below"
        warn("\n".join([f"{title} warnings, {len(warned)} different; the first:", *first, last]))


def float_type(graph: Graph) -> str:
    """The type of what is not int8."""
    if graph.precision != "fp32":
        return "fp16"
    return "tf32" if graph.source.options.tf32 else "fp32"


def manifest(
    library: Library, graph: Graph, target: Target, layers: list[dict[str, object]]
) -> Manifest:
    """What travels with the plan."""
    source = graph.source
    policy = json.dumps(source.quantized.policy.to_json(), sort_keys=True)
    return Manifest(
        model=source.info.to_json(),
        precision=graph.precision,
        float_type=float_type(graph),
        weights=source.model.sha256,
        policy=sha256_text(policy),
        version=str(library.load().__version__),
        gpu=target.gpu,
        capabilities=list(target.capabilities),
        batch=source.options.batch,
        max_batch=source.options.max_batch,
        options=asdict(source.options) | {"calibrator": calibrator_of(source.options)},
        layers=layers,
    )
