"""ONNX Runtime on the CPU: int8 through its QLinear operators, everything else in FP32."""

import json
import tempfile
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from yoloq.base.errors import EngineError
from yoloq.base.files import replace_when_whole
from yoloq.base.machine import raise_memory
from yoloq.base.own_files import MAKE
from yoloq.engines import packages
from yoloq.engines.base import GRAPH_PACKAGES, Engine, NodeTime, Watch, check_cpu
from yoloq.engines.options import DYNAMIC, PLACED
from yoloq.engines.predictor import METADATA, ModelInfo, Predictor, any_image, by_one
from yoloq.engines.source import Graph, Source, described, read_from, with_outputs
from yoloq.graph.bytes_moved import move_bytes
from yoloq.graph.dynamic import lower_dynamic
from yoloq.graph.export import INPUT
from yoloq.graph.integer import lower_integer
from yoloq.graph.names import beside, convolution_of, module_of

TYPES = {"float": "fp32", "uint8": "int8"}  # as a profile names them
CONVOLUTIONS = {
    **{"QLinearConv": "int8", "ConvInteger": "int8"},
    **{"Conv": "fp32", "FusedConv": "fp32"},
}
ANEW = f"build it anew: {MAKE} engine ARGS=--force"
WARMUP = 5  # runs that a profile does not count
DEQUANTIZED_NODE = "_DQ"  # behind the name of a tensor: the node that dequantizes it
EVENT = "_kernel_time"  # how a trace marks a node's own time


def precisions(device: str) -> tuple[str, ...]:
    """FP32 and int8: the CPU provider has no 16-bit convolutions.

    Raises:
        EngineError: another device than the CPU was asked for.
    """
    check_cpu("onnxruntime", device)
    return ("fp32", "int8")


def build(graph: Graph, folder: Path) -> Path:
    """Write an ONNX file in the lowering that this engine runs in integers."""
    file = folder / f"onnxruntime-{graph.precision}.onnx"
    with replace_when_whole(file) as temporary:
        onnx.save(graph.model, temporary)
    return file


def lower(source: Source, precision: str) -> onnx.ModelProto:
    """The ONNX graph of a precision in the form that this engine runs, with its metadata."""
    exported = source.exported("int8" if precision in PLACED else precision)
    model = exported.model
    if precision == DYNAMIC:
        model = lower_dynamic(exported, source.net("int8"))
    if precision == "int8":
        model = lower_integer(exported, source.net(precision), source.quantized.outputs)
    return described(move_bytes(model), source.info)


class OnnxRuntimePredictor:
    """A session on the CPU."""

    float_type = "fp32"

    def __init__(self, session: Any) -> None:
        self.session = session
        about = session.get_modelmeta().custom_metadata_map
        self.model = ModelInfo.from_json(about.get(METADATA, ""))

    def __call__(self, images: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        return by_one(lambda image: self.session.run(None, {INPUT: image}), images)


def load(file: Path, precision: str, device: str, threads: int) -> OnnxRuntimePredictor:
    """Open a file that `build` wrote."""
    return _open(file, threads)


def streams(
    file: Path, precision: str, device: str, threads: int, count: int
) -> list[OnnxRuntimePredictor]:
    """One session, which several threads may call at once: each works itself.

    What is left of the threads helps all of them.
    """
    return [_open(file, max(1, threads - count + 1))] * count


def _open(file: Path | bytes, threads: int, **more: Any) -> OnnxRuntimePredictor:
    onnxruntime = packages.onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    for name, value in more.items():
        setattr(options, name, value)
    try:
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # of a class of its own for each status
        raise_memory(error)
        reason = " ".join(str(error).split())[:300]
        raise EngineError(f"ONNX Runtime cannot open it ({reason}); {ANEW}") from None
    return OnnxRuntimePredictor(session)


def profile(file: Path, precision: str, device: str, threads: int, runs: int) -> list[NodeTime]:
    """Times of the executed nodes from ONNX Runtime's trace, which counts whole microseconds."""
    with tempfile.TemporaryDirectory() as folder:
        fused = Path(folder) / "fused.onnx"
        predictor = _open(
            file,
            threads,
            enable_profiling=True,
            profile_file_prefix=str(Path(folder) / "trace"),
            optimized_model_filepath=str(fused),
        )
        image = any_image(predictor.model.imgsz)
        for _ in range(WARMUP + runs):
            predictor(image)
        trace = Path(predictor.session.end_profiling())
        events = json.loads(trace.read_text(encoding="utf-8"))
        graph = onnx.load(fused).graph
    records = defaultdict(list)
    for event in events:
        if event["cat"] == "Node" and event["name"].endswith(EVENT):
            records[event["name"].removesuffix(EVENT)].append(event)
    return _node_times(records, graph)


def types(predictor: Predictor, file: Path, layers: Collection[str]) -> dict[str, str]:
    """What each convolution computes in, from the graph that ONNX Runtime makes of the file's."""
    with tempfile.TemporaryDirectory() as folder:
        fused = Path(folder) / "fused.onnx"
        _open(file, 1, optimized_model_filepath=str(fused))
        nodes = onnx.load(fused, load_external_data=False).graph.node
    found = {}
    for node in nodes:
        if node.op_type in CONVOLUTIONS:  # named after its activation, if that is fused into it
            name = convolution_of(node.name, layers) or beside(module_of(node.name), layers)
            found[name] = CONVOLUTIONS[node.op_type]
    return found


def intermediates(source: Source, precision: str, layers: Sequence[str], threads: int) -> Watch:
    """Outputs of convolutions, of those in int8 as they are read from integers."""
    model = lower(source, precision)
    tensors = read_from(model, source, precision, layers)
    session = _open(with_outputs(model, tensors.values()).SerializeToString(), threads).session

    def watch(image: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        outputs = session.run(list(tensors.values()), {INPUT: image})
        return dict(zip(tensors, outputs, strict=True))

    return watch


def _node_times(
    records: Mapping[str, Sequence[dict[str, Any]]], graph: onnx.GraphProto
) -> list[NodeTime]:
    """The nodes of a trace, in their order, with what they are of in the fused graph.

    An operator that is a function of others (HardSwish) becomes nodes without names. The trace
    calls them after their operator and a number that the file lacks: their order tells them.
    """
    named = {node.name: node for node in graph.node if node.name}
    unnamed: dict[str, list[onnx.NodeProto]] = defaultdict(list)  # by operator, the last first
    for node in reversed(graph.node):
        if not node.name:
            unnamed[node.op_type].append(node)
    sources = _Sources(graph)
    times = []
    for name, events in records.items():
        about = events[0]["args"]
        parts = unnamed[about["op_name"]]
        node = named.get(name) or (parts.pop() if parts else None)
        kind = next(iter(about["output_type_shape"][0]))
        ms = float(np.median([event["dur"] for event in events[WARMUP:]])) / 1e3
        found = (name,) if node is None else sources.of(node)
        times.append(NodeTime(about["op_name"], TYPES.get(kind, kind), found, ms))
    return times


class _Sources:
    """Names that nodes of a fused graph have from the exported one."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.makers = {output: node for node in graph.node for output in node.output}
        self.readers = defaultdict(list)
        for node in graph.node:
            for tensor in node.input:
                self.readers[tensor].append(node)

    def of(self, node: onnx.NodeProto) -> tuple[str, ...]:
        """A node's own name; of an added one its readers' or its input's, of a part its input's."""
        if node.name.startswith("/"):
            return (node.name,)
        maker = self.makers.get(node.input[0])
        if not node.name and maker is not None:
            return tuple(name.removesuffix(DEQUANTIZED_NODE) for name in self.of(maker))
        users = [user for output in node.output for user in self.readers[output]]
        found = tuple(name for user in users for name in self.of(user))
        return found or ((node.name,) if maker is None else (maker.name,))


ENGINE = Engine(
    "onnxruntime",
    precisions,
    build,
    load,
    {"onnxruntime": ("onnxruntime",), **GRAPH_PACKAGES},
    lower=lower,
    target="onnxruntime",
    profile=profile,
    types=types,
    intermediates=intermediates,
    streams=streams,
    takes=("dynamic",),
)
