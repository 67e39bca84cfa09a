"""The exported float graph, and what is put into it for a quantized convolution."""

import copy
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from onnx_graphs import Lookup, run
from tiny_quant import as_input, pictures, signal_to_noise, tiny_model, tiny_quantized
from torch import nn

from yoloq.base.errors import EngineError, PolicyError
from yoloq.graph.export import OPSET, export_float, float_copy
from yoloq.graph.lower import lower_minimal
from yoloq.graph.qdq import check_exportable
from yoloq.models import FAMILIES
from yoloq.models.residuals import Add
from yoloq.quant.modules import QuantAdd, QuantConv2d, quantizers, switched
from yoloq.quant.policy import Policy, Rule
from yoloq.quant.spec import ACTIVATION, WEIGHT, PerGroup, PerTensor, QuantSpec

pytestmark = pytest.mark.usefixtures("one_thread")

WHOLE = {"float_first": 0, "float_head": False}


def shapes(values) -> list[tuple[str, int, list[int]]]:
    types = [(value.name, value.type.tensor_type) for value in values]
    return [(name, t.elem_type, [d.dim_value for d in t.shape.dim]) for name, t in types]


def reference(net: nn.Module, count: int) -> list[np.ndarray]:
    with torch.inference_mode():
        return [raw.numpy() for raw in net(as_input(pictures(count)))]


@pytest.mark.parametrize("batch", [1, 3])
def test_interface_of_the_graph(batch: int) -> None:
    model = export_float(tiny_model().net, 64, batch).model
    floats, bytes_ = onnx.TensorProto.FLOAT, onnx.TensorProto.UINT8
    assert shapes(model.graph.input) == [("images", bytes_, [batch, 64, 64, 3])]
    assert shapes(model.graph.output) == [
        ("raw0", floats, [batch, 8, 8, 24]),
        ("raw1", floats, [batch, 4, 4, 24]),
        ("raw2", floats, [batch, 2, 2, 24]),
    ]
    assert model.opset_import[0].version == OPSET


@pytest.mark.parametrize(
    ("family", "stem"),
    [*((family, "conv") for family in FAMILIES), ("yolov5", "focus")],
)
def test_float_graph_equals_torch(family: str, stem: str) -> None:
    net = tiny_model(family, stem).net
    before = copy.deepcopy(net.state_dict())
    found = run(export_float(net, 64).model, pictures(2))
    assert signal_to_noise(reference(net, 2), found) > 80
    after = net.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before), "net is not changed"


def test_float_copy_is_plain_and_apart() -> None:
    net = tiny_quantized(**WHOLE, residual="both").model.net
    plain = float_copy(net)
    kinds = {type(module) for module in plain.modules()}
    assert not kinds & {QuantConv2d, QuantAdd}
    assert {nn.Conv2d, Add} <= kinds
    assert not any(module.training for module in plain.modules())
    assert isinstance(net.get_submodule("model.2.m.0.add"), QuantAdd), "the original stays"
    mine, theirs = (n.get_parameter("model.0.conv.weight") for n in (net, plain))
    assert mine.data_ptr() != theirs.data_ptr()
    for found, wanted in zip(reference(plain, 1), reference(tiny_model().net, 1), strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_export_of_a_quantized_network_is_that_of_the_float_network() -> None:
    nets = (tiny_quantized().model.net, tiny_model().net)
    first, second = (export_float(net, 64).model for net in nets)
    assert [node.op_type for node in first.graph.node] == [n.op_type for n in second.graph.node]
    for found, wanted in zip(run(first, pictures(1)), run(second, pictures(1)), strict=True):
        np.testing.assert_array_equal(found, wanted)


GRAPHS = {
    "every layer": WHOLE,
    "focus stem": WHOLE | {"stem": "focus"},
    "ultralytics": WHOLE | {"family": "ultralytics"},
    "per tensor": WHOLE | {"weight": replace(WEIGHT, granularity=PerTensor())},
    "per group": WHOLE | {"weight": replace(WEIGHT, granularity=PerGroup(4))},
    "3-bit weights": WHOLE | {"weight": replace(WEIGHT, bits=3)},
}


@pytest.mark.parametrize("options", GRAPHS.values(), ids=GRAPHS)
def test_scales_and_integers_in_the_graph(options: dict) -> None:
    """Scale is amax / qmax; the first layer takes pixels up to 255 and gives that back."""
    net = tiny_quantized(**options).model.net
    qmax = options.get("weight", WEIGHT).qmax
    graph = Lookup(lower_minimal(export_float(net, 64), net))
    modules = [module for module in net.modules() if isinstance(module, QuantConv2d)]
    nodes = graph.convolutions()
    assert len(nodes) == len(modules)
    for index, node in enumerate(nodes):
        scale, zero_point, integers = graph.pair(node.input[1])
        module = match(modules, integers, scale * (255 if index == 0 else 1))
        factor = 255 if index == 0 else 1
        amax = module.weight_quantizer.amax.numpy()
        np.testing.assert_allclose(scale, amax / qmax / factor, rtol=1e-6)
        assert scale.shape == zero_point.shape == amax.shape
        assert integers.dtype == zero_point.dtype == np.int8
        assert not zero_point.any()
        assert np.abs(integers.astype(int)).max() == qmax
        scale, zero_point, _ = graph.pair(node.input[0])
        np.testing.assert_allclose(
            scale, float(module.input_quantizer.amax) / 127 * factor, rtol=1e-6
        )
        assert (zero_point, zero_point.dtype) == (0, np.int8)


def match(modules: list[QuantConv2d], integers: np.ndarray, scale: np.ndarray) -> QuantConv2d:
    """The module whose weight, rounded, these integers are; removed from the list."""
    scale = scale.reshape(-1, 1, 1, 1)
    for module in modules:
        if module.weight.shape == integers.shape:
            most = np.abs(integers.astype(int)).max()  # few bits clip the largest weights
            steps = np.clip(module.weight.detach().numpy() / scale, -most, most)
            if np.abs(steps - integers).max() <= 0.5001:
                modules.remove(module)
                return module
    raise AssertionError("no module has this weight")


def test_asymmetric_inputs_are_unsigned() -> None:
    net = tiny_quantized(**WHOLE, activation=QuantSpec(symmetric=False)).model.net
    graph = Lookup(lower_minimal(export_float(net, 64), net))
    stem = graph.convolutions()[0]
    scale, zero_point, _ = graph.pair(stem.input[0])
    low, high = (float(net.get_submodule("model.0.conv").input_quantizer.low), 1.0)
    assert scale == pytest.approx(1.0), f"pixels {low * 255:.0f} to {high * 255:.0f} are integers"
    assert (zero_point, zero_point.dtype) == (0, np.uint8)
    for node in graph.convolutions()[1:]:
        _, zero_point, _ = graph.pair(node.input[0])
        assert zero_point.dtype == np.uint8
        assert 0 < zero_point < 255, "SiLU goes below 0"


@pytest.mark.parametrize(
    ("options", "quantized"),
    [
        pytest.param({}, 55, id="default"),
        pytest.param({"float_first": 0}, 57, id="first layers too"),
        pytest.param({"float_head": False}, 58, id="head too"),
        pytest.param({"keep_float": ["model.9", "*.m"]}, 31, id="patterns"),
    ],
)
def test_number_of_quantized_convolutions(options: dict, quantized: int) -> None:
    net = tiny_quantized(**options).model.net
    graph = Lookup(lower_minimal(export_float(net, 64), net))
    pairs = [[graph.pair(tensor) for tensor in node.input[:2]] for node in graph.convolutions()]
    assert sum(None not in pair for pair in pairs) == quantized
    assert sum(pair == [None, None] for pair in pairs) == 60 - quantized


FOUR_BITS = Policy((Rule("*", WEIGHT, ACTIVATION), Rule("model.3", WEIGHT, QuantSpec(bits=4))))


def test_activations_below_8_bits_are_found_before_export() -> None:
    net = tiny_quantized(policy=FOUR_BITS).model.net
    with pytest.raises(PolicyError, match=r"model\.3\.conv: activations of 4 bits run only on"):
        check_exportable(net)
    with switched(quantizers(net).values(), enabled=False):
        check_exportable(net)
    check_exportable(tiny_quantized(weight=replace(WEIGHT, bits=4)).model.net)


def test_weights_above_8_bits_are_found_before_export() -> None:
    net = tiny_quantized(weight=replace(WEIGHT, bits=16)).model.net
    with pytest.raises(PolicyError, match=r"model\.2\.cv1\.conv: weights of 16 bits run only on"):
        check_exportable(net)


def test_a_layer_that_the_exporter_does_not_know_is_named() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.FractionalMaxPool2d(2, output_size=8)).eval()
    with pytest.raises(EngineError, match=r"cannot be exported to ONNX \(.*fractional_max_pool2d"):
        export_float(_Maps(net), 32)


def test_a_threshold_other_than_0() -> None:
    net = _Maps(nn.Sequential(nn.Conv2d(3, 4, 1), nn.Threshold(0.1, 0.05))).eval()
    image = np.random.default_rng(0).integers(0, 255, (1, 32, 32, 3), np.uint8)
    [found] = run(export_float(net, 32).model, image)
    with torch.no_grad():
        [want] = net(as_input(image))
    np.testing.assert_allclose(found, want, atol=1e-5)
    assert (found == np.float32(0.05)).any()


class _Maps(nn.Module):
    """A network of one level."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        return [self.net(images)]
