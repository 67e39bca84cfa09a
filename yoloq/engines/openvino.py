"""OpenVINO on Intel and AMD CPUs (and Arm): the default engine of a machine without a GPU."""

import functools
import re
import threading
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from yoloq.base.errors import EngineError
from yoloq.base.files import replace_when_whole, temporary_folder, writing
from yoloq.base.machine import is_x86_without_amx, raise_memory
from yoloq.base.own_files import MAKE
from yoloq.engines import packages
from yoloq.engines.base import GRAPH_PACKAGES, Defaults, Engine, NodeTime, Watch, check_cpu
from yoloq.engines.predictor import METADATA, ModelInfo, Predictor, any_image
from yoloq.engines.source import Graph, Source, tensors_of, with_outputs
from yoloq.graph.lower import lower_minimal
from yoloq.graph.names import convolution_of

ACTIVATIONS = "yoloq_activations"  # key of an int8 file's activation type
HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}
TYPES = {"f32": "fp32", "f16": "fp16", "u8": "int8", "i8": "int8"}  # as a profile names them
MADE = re.compile(r"[A-Z]\w*_\d+$")  # how OpenVINO names what it adds itself
WARMUP = 5  # runs that a profile does not count


@functools.cache
def core() -> Any:
    """The process's only `Core`, alive to its end.

    On a CPU with AMX each core gives the thread a larger stack for signals and, when it goes, puts
    back the one it found. With two cores the first to go frees the stack that the second puts back,
    and the next signal (a worker process that ends sends one) kills the process. Seen with 2026.4.
    """
    return packages.openvino().Core()


def sixteen_bit() -> str | None:
    """The 16-bit type that this CPU computes in, as OpenVINO reports it."""
    capabilities = core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return next((name for name in ("bf16", "fp16") if name.upper() in capabilities), None)


def precisions(device: str) -> tuple[str, ...]:
    """FP32, the CPU's 16-bit type where it has one, int8.

    Raises:
        EngineError: another device than the CPU was asked for.
    """
    check_cpu("openvino", device)
    half = sixteen_bit()
    return ("fp32", half, "int8") if half else ("fp32", "int8")


def build(graph: Graph, folder: Path) -> Path:
    """Write OpenVINO's .xml and .bin; a 16-bit model also stores its weights in 16 bits."""
    openvino, precision = packages.openvino(), graph.precision
    model = core().read_model(graph.model.SerializeToString())
    model.set_rt_info(graph.source.info.to_json(), METADATA)
    if precision == "int8":
        model.set_rt_info("uint8" if wants_unsigned() else "int8", ACTIVATIONS)
    file = folder / f"openvino-{precision}.xml"
    with replace_when_whole(file) as description, replace_when_whole(_weights(file)) as weights:
        with temporary_folder(folder, file.stem) as whole:
            pair = whole / file.name
            with writing(file):
                openvino.save_model(model, pair, compress_to_fp16=precision in ("bf16", "fp16"))
            pair.replace(description)
            _weights(pair).replace(weights)
        file.unlink(missing_ok=True)  # an .xml never stands beside the .bin of another model
    return file


def lower(source: Source, precision: str) -> onnx.ModelProto:
    """The ONNX graph of a precision in the form that this engine runs."""
    exported = source.exported(precision)
    if precision != "int8":
        return exported.model
    model = lower_minimal(exported, source.net(precision), unsigned=wants_unsigned())
    _keep_image_pair(model.graph)
    return model


def _keep_image_pair(graph: onnx.GraphProto) -> None:
    """Let the pair that rounds the image's bytes to themselves have a scale a hair above 1.

    OpenVINO removes a pair that does nothing, and then computes the first convolution in float:
    with 2026.4 model.0 of yolov5n took half as long again. The integers stay the bytes, and what
    they stand for is off by a hundred-thousandth. (int8, 128 lower, would be exact, but behind a
    Focus the pair is moved through a Concat, whose int8 is wrong: see `wants_unsigned`.)
    """
    values = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type != "QuantizeLinear":
            continue
        scale, zero_point = (numpy_helper.to_array(values[name]) for name in node.input[1:])
        if scale == 1 and zero_point.dtype == np.uint8 and zero_point == 0:
            kept = numpy_helper.from_array(np.array(1 + 1e-5, np.float32), node.input[1])
            values[node.input[1]].CopyFrom(kept)


def defaults() -> Defaults:
    """Zero-points cost nothing on x86 without AMX, where activations go into uint8 anyway.

    For AMX's kernels oneDNN knew none in 2022, and it was not measured since: symmetric there.
    """
    return Defaults(symmetric=not wants_unsigned())


def wants_unsigned() -> bool:
    """Whether activations go into uint8 with zero-point 128 in the place of int8: the same steps.

    On x86 without AMX OpenVINO turns int8 activations into uint8 by itself, and loses the scale of
    a quantized Concat on the way (`graph.lint.pairs.signed_concats`).
    """
    return is_x86_without_amx()


def _weights(file: Path) -> Path:
    """Where OpenVINO looks for the weights of an .xml file."""
    return file.with_suffix(".bin")


class OpenVINOPredictor:
    """A compiled model and one inference request."""

    def __init__(self, compiled: Any, model: ModelInfo, float_type: str) -> None:
        self.request = compiled.create_infer_request()
        self.shapes = [tuple(output.shape) for output in compiled.outputs]
        self.model = model
        self.float_type = float_type
        self._written: list[NDArray[np.float32]] = []
        self._turn = threading.Lock()

    def __call__(self, images: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        maps = [np.empty((len(images), *shape[1:]), np.float32) for shape in self.shapes]
        for index in range(len(images)):
            self._run(images[index : index + 1], [level[index : index + 1] for level in maps])
        return [level.transpose(0, 3, 1, 2) for level in maps]

    def _run(self, image: NDArray[np.uint8], outputs: list[NDArray[np.float32]]) -> None:
        """Let OpenVINO write into the outputs themselves.

        To copy them from its own memory took 0.7 of 12 ms at 640 pixels on one core.
        """
        tensor = packages.openvino().Tensor
        with self._turn:
            for number, output in enumerate(outputs):
                self.request.set_output_tensor(number, tensor(output, shared_memory=True))
            self._written = outputs  # the request knows only where they are
            self.request.infer(image, share_inputs=True, share_outputs=True)


def load(file: Path, precision: str, device: str, threads: int) -> OpenVINOPredictor:
    """Compile a file that `build` wrote, for latency.

    The float layers of an int8 model run in the CPU's 16-bit type where it has one.

    Raises:
        EngineError: the file was built for CPUs on which int8 is computed in another way.
    """
    return _open(file, precision, threads)


def streams(
    file: Path, precision: str, device: str, threads: int, count: int
) -> list[OpenVINOPredictor]:
    """Requests of one compiled model, each with its share of the threads.

    Raises:
        EngineError: as for `load`.
    """
    first = _open(file, precision, threads, PERFORMANCE_HINT="THROUGHPUT", NUM_STREAMS=count)
    compiled = first.request.get_compiled_model()
    more = range(count - 1)
    return [first, *(OpenVINOPredictor(compiled, first.model, first.float_type) for _ in more)]


def _open(file: Path, precision: str, threads: int, **more: Any) -> OpenVINOPredictor:
    try:
        model = core().read_model(file)
        about = str(model.get_rt_info(METADATA).value) if model.has_rt_info(METADATA) else ""
    except RuntimeError as error:
        raise_memory(error)
        reason = " ".join(str(error).split())[:300]
        raise EngineError(
            f"{file}: OpenVINO cannot open it ({reason}); build it anew: {MAKE} engine ARGS=--force"
        ) from None
    info = ModelInfo.from_json(about)
    signed = model.has_rt_info(ACTIVATIONS) and model.get_rt_info(ACTIVATIONS).value == "int8"
    if signed and wants_unsigned():
        raise EngineError(
            f"{file}: was built on a CPU with AMX, and OpenVINO computes its int8 wrongly on this "
            f"one; build it here: {MAKE} engine ARGS=--force"
        )
    compiled = _compile(model, precision, threads, **more)
    return OpenVINOPredictor(compiled, info, _float_type(precision))


def _compile(model: Any, precision: str, threads: int, **more: Any) -> Any:
    options = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": HINTS[_float_type(precision)],
        "INFERENCE_NUM_THREADS": threads,
    }
    return core().compile_model(model, "CPU", options | more)


def _float_type(precision: str) -> str:
    return (sixteen_bit() or "fp32") if precision == "int8" else precision


def intermediates(source: Source, precision: str, layers: Sequence[str], threads: int) -> Watch:
    """Outputs of convolutions, which are no longer fused with their activation."""
    tensors = tensors_of(source, precision, layers)
    graph = with_outputs(lower(source, precision), tensors.values())
    model = core().read_model(graph.SerializeToString())
    request = _compile(model, precision, threads).create_infer_request()

    def watch(image: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        result = request.infer(image)
        return {layer: result[tensor] for layer, tensor in tensors.items()}

    return watch


def profile(file: Path, precision: str, device: str, threads: int, runs: int) -> list[NodeTime]:
    """Times of the executed nodes, by OpenVINO's own counters: means, not medians.

    What it reports after a run is the mean over all runs since the model was compiled, in whole
    microseconds; the warm-up is taken out again.
    """
    predictor = _open(file, precision, threads, PERF_COUNT=True)
    cold = _counters(predictor, WARMUP)
    warm = _counters(predictor, runs)
    ops = predictor.request.get_compiled_model().get_runtime_model().get_ordered_ops()
    by_name = {op.get_friendly_name(): op for op in ops}
    nodes = []
    for before, after in zip(cold, warm, strict=True):
        op = by_name.get(after.node_name)  # None: it was fused into another
        if op is not None:
            total = (WARMUP + runs) * after.real_time - WARMUP * before.real_time
            ms = max(0.0, 1e3 * total.total_seconds() / runs)  # their rounding may make it negative
            kind = _runtime_info(op, "runtimePrecision")
            nodes.append(NodeTime(after.node_type, TYPES.get(kind, kind), _sources(op), ms))
    return nodes


def types(predictor: Predictor, file: Path, layers: Collection[str]) -> dict[str, str]:
    """What each convolution computes in, as the compiled model has it."""
    assert isinstance(predictor, OpenVINOPredictor)
    found: dict[str, str] = {}
    for op in predictor.request.get_compiled_model().get_runtime_model().get_ordered_ops():
        if _runtime_info(op, "layerType") == "Convolution":
            kind = _runtime_info(op, "runtimePrecision")
            names = (convolution_of(source, layers) for source in _originals([op]))
            found |= {name: TYPES.get(kind, kind) for name in names if name}
    return found


def _counters(predictor: OpenVINOPredictor, runs: int) -> list[Any]:
    """What OpenVINO counted for each node after that many more runs."""
    image = any_image(predictor.model.imgsz)
    for _ in range(runs):
        predictor(image)
    return list(predictor.request.get_profiling_info())


def _sources(op: Any) -> tuple[str, ...]:
    """Names of what was fused into an operator; of an added one, of its readers or its input."""
    readers = [port.get_node() for output in op.outputs() for port in output.get_target_inputs()]
    makers = [value.get_source_output().get_node() for value in op.inputs()]
    found = _originals([op]) or _originals(readers) or _originals(makers)
    return found or (op.get_friendly_name(),)


def _originals(ops: Sequence[Any]) -> tuple[str, ...]:
    names = [name for op in ops for name in _runtime_info(op, "originalLayersNames").split(",")]
    return tuple(name for name in names if name and not MADE.match(name))


def _runtime_info(op: Any, key: str) -> str:
    return str(op.rt_info[key].value) if key in op.rt_info else ""


ENGINE = Engine(
    "openvino",
    precisions,
    build,
    load,
    {"openvino": ("openvino",), **GRAPH_PACKAGES},
    lower=lower,
    target="openvino",
    profile=profile,
    types=types,
    intermediates=intermediates,
    defaults=defaults,
    streams=streams,
)
