"""A fake TensorRT that parses a real ONNX graph and calls back as a build does."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import onnx
import tensorrt as trt
import torch
from some_gpu import describe_gpu
from trt_fakes import Fake, FakeTensorRT

from yoloq.engines.tensorrt.library import Library

PLAN = b"the plan"
TIMES = b"times of kernels"
TABLE = "TRT-101601-EntropyCalibration2\n"
PHASES = (("Building", None, 2), ("Timing graph nodes", "Building", 3))


@dataclass
class Build:
    """What a fake build does and sees.

    Attributes:
        errors: messages that TensorRT logs before it gives up.
        during: called by the builder's thread while it builds, with the config.
        graphs: what was parsed.
        images: what the calibrator gave, in copies; one list for each build.
        tables: what the calibrator read back, a build each.
    """

    errors: tuple[str, ...] = ()
    parser_errors: tuple[tuple[str, str, str], ...] = ()
    during: Callable[[Fake], None] = lambda config: None
    graphs: list[onnx.ModelProto] = field(default_factory=list)
    images: list[list[Any]] = field(default_factory=list)
    tables: list[bytes | None] = field(default_factory=list)


def world(build: Build) -> FakeTensorRT:
    """The fake module."""
    fakes: FakeTensorRT

    def parse(parser: Fake, model: bytes) -> bool:
        build.graphs.append(onnx.load_from_string(model))
        return not build.parser_errors

    def get_error(parser: Fake, index: int) -> Fake:
        name, operator, text = build.parser_errors[index]
        error = fakes.new("ParserError")
        for method, value in (("node_name", name), ("node_operator", operator), ("desc", text)):
            error._values[f"{method}()"] = value
        return error

    def told(method: str) -> Callable[[Fake], str]:
        return lambda error: error._values[f"{method}()"]

    def get_input(network: Fake, index: int) -> Fake:
        (images,) = build.graphs[-1].graph.input
        axes = images.type.tensor_type.shape.dim
        kinds = {
            onnx.TensorProto.UINT8: trt.DataType.UINT8,
            onnx.TensorProto.FLOAT: trt.DataType.FLOAT,
        }
        shape = tuple(-1 if axis.dim_param else axis.dim_value for axis in axes)
        kind = kinds[images.type.tensor_type.elem_type]
        return fakes.new("ITensor", name=images.name, shape=shape, dtype=kind)

    def get_layer(network: Fake, index: int) -> Fake:
        node = build.graphs[-1].graph.node[index]
        is_conv = node.op_type == "Conv"
        kind = trt.LayerType.CONVOLUTION if is_conv else trt.LayerType.ACTIVATION
        layer = fakes.new("ILayer", name=node.name, type=kind)
        layer._values["input"] = node.input[0] if node.input else ""
        return layer

    def layer_input(layer: Fake, index: int) -> Fake:
        return fakes.new("ITensor", name=layer._values["input"])

    def build_serialized_network(builder: Fake, network: Fake, config: Fake) -> bytes | None:
        assert _phases(config.progress_monitor) in (True, False)
        if getattr(trt, "IInt8Calibrator", None) and "int8_calibrator" in config._values:
            _calibrate(config.int8_calibrator, build)
        build.during(config)
        (logger,) = {fake["logger"] for fake in fakes.called("Builder", "__init__")}
        for text in build.errors:
            trt.ILogger.log(logger, trt.ILogger.ERROR, text)
        going_on = trt.IProgressMonitor.step_complete(config.progress_monitor, "Building", 1)
        return PLAN if going_on and not build.errors else None

    fakes = FakeTensorRT(
        trt,
        {
            "OnnxParser.parse": parse,
            "OnnxParser.num_errors": lambda parser: len(build.parser_errors),
            "OnnxParser.get_error": get_error,
            "ParserError.node_name": told("node_name"),
            "ParserError.node_operator": told("node_operator"),
            "ParserError.desc": told("desc"),
            "INetworkDefinition.get_input": get_input,
            "INetworkDefinition.num_layers": lambda n: len(build.graphs[-1].graph.node),
            "INetworkDefinition.get_layer": get_layer,
            "ILayer.get_input": lambda layer, index: fakes.new(
                "ITensor", name=layer._values["input"]
            ),
            "ITimingCache.serialize": lambda cache: TIMES,
            "Builder.build_serialized_network": build_serialized_network,
        },
    )
    return fakes


def _phases(monitor: trt.IProgressMonitor) -> bool:
    """Report as TensorRT does; True unless the build was cancelled.

    Called on the base class a method goes through the bindings' C++ and finds the override.
    """
    base, going_on = trt.IProgressMonitor, True
    for name, parent, steps in PHASES:
        base.phase_start(monitor, name, parent, steps)
    for step in range(PHASES[1][2]):
        going_on &= base.step_complete(monitor, PHASES[1][0], step)
    base.phase_finish(monitor, PHASES[1][0])
    return going_on & base.step_complete(monitor, PHASES[0][0], 0)


def _calibrate(calibrator: Any, build: Build) -> None:
    """Read the table back, or all batches and then write one with a scale of 1 for each tensor."""
    table = calibrator.read_calibration_cache()
    build.tables.append(None if table is None else bytes(table))
    build.images.append([])
    if table is not None:
        return
    while addresses := calibrator.get_batch(["images"]):
        (address,) = addresses
        assert address == calibrator.feed.buffer.data_ptr()
        build.images[-1].append(calibrator.feed.buffer.clone().numpy())
    tensors = [name for node in build.graphs[-1].graph.node for name in node.output]
    text = TABLE + "".join(f"{name}: 3f800000\n" for name in tensors)
    calibrator.write_calibration_cache(memoryview(text.encode()))


def pretend_gpu(monkeypatch: Any, name: str = "Some GPU", capability: str = "9.0") -> None:
    """Let torch say that there is a GPU, whose memory is the CPU's."""
    describe_gpu(monkeypatch, name, capability)
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    monkeypatch.setattr(Library, "gpu", lambda library, device: torch.device("cpu"))
