"""The graphs that TensorRT parses: every precision of every family, static and dynamic batches."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx_graphs import LEVELS
from rounding import APART, CHANCE, MANY
from tiny_quant import NAMES, SIZE, as_input, signal_to_noise, tiny_model, tiny_quantized
from torch import Tensor, nn

from yoloq.base.errors import EngineError, PolicyError
from yoloq.engines import tensorrt_rtx
from yoloq.engines.base import NodeTime
from yoloq.engines.options import BuildOptions
from yoloq.engines.predictor import METADATA, ModelInfo
from yoloq.engines.source import Source
from yoloq.engines.tensorrt.onnx import tensorrt_onnx
from yoloq.measure.layer_times import layer_times
from yoloq.models import FAMILIES
from yoloq.models.load import LoadedModel
from yoloq.quant.spec import QuantSpec
from yoloq.quant.trace import trace

pytestmark = pytest.mark.usefixtures("one_thread")

PRECISIONS = ("fp32", "fp16", "int8", "int8-implicit")
IMAGES = MANY
ONE, DYNAMIC = BuildOptions(), BuildOptions(batch=1, max_batch=4)


def source(family: str, options: BuildOptions = ONE, **placement) -> Source:
    model = tiny_model(family)
    info = ModelInfo(model.head, model.names, SIZE, conf=0.3, iou=0.5)
    placement = {"sharing": "concat", "residual": "input"} | placement
    return Source(info, model, tiny_quantized(family, **placement), options)


def run(model: onnx.ModelProto, images: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
    """Raw maps of all images in one call, nothing fused."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = LEVELS.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    floats = session.get_inputs()[0].type == "tensor(float)"
    given = {"images": images.astype(np.float32) if floats else images}
    return [raw.transpose(0, 3, 1, 2) for raw in session.run(None, given)]


def torch_outputs(net: nn.Module, images: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
    with torch.inference_mode():
        return [raw.numpy() for raw in net(as_input(images))]


def operators(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


def first_axes(model: onnx.ModelProto) -> set[int | str]:
    values = (*model.graph.input, *model.graph.output)
    axes = [value.type.tensor_type.shape.dim[0] for value in values]
    return {axis.dim_param or axis.dim_value for axis in axes}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_dynamic_batch_gives_what_each_image_gives(family: str, precision: str) -> None:
    graph = tensorrt_onnx(source(family, DYNAMIC), precision)
    onnx.checker.check_model(graph, full_check=True)
    assert first_axes(graph) == {"batch"}
    together = run(graph, IMAGES)
    apart = [run(graph, IMAGES[i : i + 1]) for i in range(len(IMAGES))]
    for level, whole in enumerate(together):
        assert len(whole) == len(IMAGES)
        one_by_one = np.concatenate([maps[level] for maps in apart])
        # sums of floats in another order move a rounding here and there
        least = 50.0
        if precision == "int8":  # a rounding may go the other way, and then all behind it
            exact = torch_outputs(tiny_model(family).net, IMAGES)[level]
            least = signal_to_noise([exact], [one_by_one]) - APART - CHANCE
        assert signal_to_noise([one_by_one], [whole]) > least


def of_network(made: Source, model: LoadedModel) -> Source:
    """The same of another float network; its quantized one stays, and is not used."""
    traced = replace(made.quantized, ops=trace(model.net))
    return replace(made, model=model, quantized=traced)


@pytest.mark.parametrize("name", ["yolov10n", "yolo12n", "yolo26n"])
def test_attention_takes_any_number_of_images(name: str) -> None:
    """Beside a residual, a shape of one image would only fail with the second."""
    model = tiny_model(name)
    sources = (of_network(source("yolov5", options), model) for options in (ONE, DYNAMIC))
    one, any_number = (tensorrt_onnx(made, "fp32") for made in sources)
    apart = [
        np.concatenate(maps) for maps in zip(*(run(one, i[None]) for i in IMAGES[:3]), strict=True)
    ]
    for count in (1, 2, 3):
        together = run(any_number, IMAGES[:count])
        for whole, level in zip(together, apart, strict=True):
            assert np.abs(level).max() > 0.01
            assert np.allclose(whole, level[:count], atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_static_batch_computes_what_torch_does(family: str, precision: str) -> None:
    made = source(family, BuildOptions(batch=len(IMAGES), max_batch=len(IMAGES)))
    graph = tensorrt_onnx(made, precision)
    onnx.checker.check_model(graph, full_check=True)
    assert first_axes(graph) == {len(IMAGES)}
    exact = torch_outputs(made.model.net, IMAGES)
    loss = signal_to_noise(exact, torch_outputs(made.quantized.model.net, IMAGES))
    least = {"fp32": 80, "int8-implicit": 80, "fp16": 50, "int8": loss - CHANCE}[precision]
    assert signal_to_noise(exact, run(graph, IMAGES)) > least


@pytest.mark.parametrize("family", FAMILIES)
def test_the_form_for_rtx_computes_the_same(family: str) -> None:
    made = source(family, BuildOptions(batch=len(IMAGES), max_batch=len(IMAGES)))
    exact = torch_outputs(made.model.net, IMAGES)
    loss = signal_to_noise(exact, torch_outputs(made.quantized.model.net, IMAGES))
    graph = tensorrt_rtx.lower(made, "int8")
    assert signal_to_noise(exact, run(graph, IMAGES)) > loss - CHANCE
    weights = [
        n for n in graph.graph.node if n.op_type == "DequantizeLinear" and "weight" in n.name
    ]
    assert weights and not any(node.attribute for node in weights), "one scale each, no axis"


ON_DLA = BuildOptions(batch=len(IMAGES), dla=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_dla_gets_integers_from_one_convolution_to_the_next(family: str) -> None:
    made = source(family, ON_DLA, float_first=0, residual="both")
    exact = torch_outputs(made.model.net, IMAGES)
    loss = signal_to_noise(exact, torch_outputs(made.quantized.model.net, IMAGES))
    graph = tensorrt_onnx(made, "int8")
    onnx.checker.check_model(graph, full_check=True)
    assert signal_to_noise(exact, run(graph, IMAGES)) > min(loss, 24) - 6, "more is rounded"
    makers = {name: node for node in graph.graph.node for name in node.output}
    constants = {t.name: t for t in graph.graph.initializer}
    read = Counter[str]()
    for node in graph.graph.node:
        if node.op_type == "QuantizeLinear":
            zero_point = constants[node.input[2]]
            assert zero_point.data_type == onnx.TensorProto.INT8
            assert not onnx.numpy_helper.to_array(zero_point).any()
        if node.op_type in ("Sigmoid", "Concat", "MaxPool", "Resize", "Add"):
            sources = {makers[name].op_type for name in node.input if name in makers}
            read.update(f"{node.op_type} of {kind}" for kind in sources)
    assert read["Sigmoid of DequantizeLinear"] > 50
    others = {key for key in read if not key.endswith(" of DequantizeLinear")}
    assert others <= {"Sigmoid of Conv", "Concat of Conv"}, "of the float head alone"


def test_a_dla_changes_nothing_in_floats() -> None:
    for precision in ("fp32", "fp16"):
        graphs = (tensorrt_onnx(source("yolov5", o), precision) for o in (ONE, BuildOptions(dla=0)))
        assert next(graphs) == next(graphs)


@pytest.mark.parametrize("family", FAMILIES)
def test_types_and_pairs_of_each_precision(family: str) -> None:
    graphs = {name: tensorrt_onnx(source(family), name) for name in PRECISIONS}
    halves = {name: types(graph)[onnx.TensorProto.FLOAT16] > 0 for name, graph in graphs.items()}
    pairs = {name: operators(graph)["QuantizeLinear"] > 0 for name, graph in graphs.items()}
    assert halves == {"fp32": False, "fp16": True, "int8": True, "int8-implicit": False}
    assert pairs == {"fp32": False, "fp16": False, "int8": True, "int8-implicit": False}
    first = {name: [n.op_type for n in readers(graph, "images")] for name, graph in graphs.items()}
    # nothing is known of calibrating on bytes
    assert first.pop("int8-implicit") == ["Transpose"]
    assert list(first.values()) == [["Cast"]] * 3


def types(model: onnx.ModelProto) -> Counter[int]:
    return Counter(tensor.data_type for tensor in model.graph.initializer)


def readers(model: onnx.ModelProto, tensor: str) -> list[onnx.NodeProto]:
    return [node for node in model.graph.node if tensor in node.input]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_names_of_convolutions_lead_to_their_modules(family: str, precision: str) -> None:
    made = source(family)
    nodes = tensorrt_onnx(made, precision).graph.node
    names = [node.name for node in nodes if node.op_type == "Conv"]
    profile = [NodeTime("Convolution", "int8", (name,), 1.0) for name in names]
    times = layer_times(profile, made.quantized.placement.layers)
    assert set(times.layers.values()) == {1.0}
    assert (times.others, times.rest) == ({}, 0.0)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_what_an_image_needs_travels_with_the_graph(precision: str) -> None:
    made = source("yolov5")
    properties = {p.key: p.value for p in tensorrt_onnx(made, precision).metadata_props}
    found = ModelInfo.from_json(properties[METADATA])
    assert found == made.info
    assert found.names == NAMES


def test_zero_points_are_refused_in_int8_alone() -> None:
    made = source("yolov5", activation=QuantSpec(symmetric=False))
    assert tensorrt_onnx(made, "fp16").graph.node
    with pytest.raises(PolicyError, match="ENGINE=tensorrt"):
        tensorrt_onnx(made, "int8")
    with pytest.raises(PolicyError, match="ENGINE=tensorrt"):
        tensorrt_onnx(replace(made, options=BuildOptions(dla=0)), "int8")


class Counting(nn.Module):
    """A network that writes the number of images that it was traced with into its graph."""

    def __init__(self, use: Callable[[Tensor, int], Tensor]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.use = use

    def forward(self, x: Tensor) -> list[Tensor]:
        y: Tensor = self.conv(x)
        return [y + self.use(y, len(y))]  # beside which a shape of one image would spread


def counting(use: Callable[[Tensor, int], Tensor], options: BuildOptions) -> onnx.ModelProto:
    made = source("yolov5", options)
    model = replace(made.model, net=Counting(use).eval())
    return tensorrt_onnx(of_network(made, model), "fp32")


@pytest.mark.parametrize(
    "use",
    [
        pytest.param(lambda y, n: y.reshape(int(n), 8, -1).reshape(y.shape), id="what is left"),
        pytest.param(lambda y, n: y + torch.arange(float(n)).reshape(-1, 1, 1, 1), id="constant"),
        pytest.param(lambda y, n: torch.cat([y[i : i + 1] for i in range(n)]), id="nodes"),
    ],
)
def test_a_network_that_holds_the_number_of_images_is_refused_others(use) -> None:
    assert first_axes(counting(use, ONE)) == {1}
    with pytest.raises(EngineError, match=r"--max-batch: \S+ of this network holds") as caught:
        counting(use, DYNAMIC)
    assert "\n" not in str(caught.value)
