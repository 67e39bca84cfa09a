"""The typed FP16 variant: its types by strict inference, its numbers on ONNX Runtime."""

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto
from onnx_graphs import Lookup, run
from rounding import APART, CHANCE, MANY
from tiny_quant import as_input, signal_to_noise, tiny_model, tiny_quantized
from torch import nn

from yoloq.base.errors import PolicyError
from yoloq.graph.export import export_float
from yoloq.graph.fp16 import SMALLEST, to_fp16
from yoloq.graph.lower import lower_minimal, lower_tensorrt
from yoloq.models import FAMILIES
from yoloq.quant.modules import QuantConv2d

pytestmark = pytest.mark.usefixtures("one_thread")

NETS = [*((family, "conv") for family in FAMILIES), ("yolov5", "focus")]
EVERY_LAYER = {"float_first": 0, "float_head": False, "sharing": "concat", "residual": "input"}
PLACEMENTS = {"float": None, "default": {}, "every layer": EVERY_LAYER}
IMAGES = MANY


def network(family: str, stem: str, placement: dict | None) -> nn.Module:
    if placement is None:
        return tiny_model(family, stem).net
    return tiny_quantized(family, stem, **placement).model.net


def lowered(net: nn.Module) -> onnx.ModelProto:
    return lower_tensorrt(export_float(net, 64), net)


def simulated(net: nn.Module) -> list[NDArray[np.float32]]:
    with torch.inference_mode():
        return [raw.numpy() for raw in net(as_input(IMAGES))]


def types(model: onnx.ModelProto) -> dict[str, int]:
    """Element type of every value and initializer."""
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    values = (*inferred.input, *inferred.output, *inferred.value_info)
    found = {value.name: value.type.tensor_type.elem_type for value in values}
    return found | {tensor.name: tensor.data_type for tensor in inferred.initializer}


@pytest.mark.parametrize(("family", "stem"), NETS)
@pytest.mark.parametrize("placement", PLACEMENTS.values(), ids=PLACEMENTS)
def test_every_float_is_fp16_but_the_outputs_and_the_scales_of_a_resize(
    family: str, stem: str, placement: dict | None
) -> None:
    model = to_fp16(lowered(network(family, stem, placement)))
    onnx.checker.check_model(model, full_check=True)
    assert not model.graph.value_info, "nothing but inference says the types"
    assert model.opset_import[0].version >= 19
    found = types(model)
    values = {tensor for node in model.graph.node for tensor in (*node.input, *node.output)}
    assert found.keys() >= values - {""}
    scales = {node.input[2] for node in model.graph.node if node.op_type == "Resize"}
    singles = {name for name, kind in found.items() if kind == TensorProto.FLOAT}
    assert singles == {"raw0", "raw1", "raw2"} | scales
    whole = {TensorProto.INT8} if placement is not None else set()
    whole |= {TensorProto.INT64} if stem == "focus" else set()
    assert set(found.values()) == {
        *(TensorProto.UINT8, TensorProto.FLOAT16, TensorProto.FLOAT),
        *whole,
    }


@pytest.mark.parametrize(("family", "stem"), NETS)
def test_fp16_computes_what_torch_does(family: str, stem: str) -> None:
    net = tiny_model(family, stem).net
    assert signal_to_noise(simulated(net), run(to_fp16(lowered(net)), IMAGES)) > 50


@pytest.mark.parametrize(("family", "stem"), NETS)
@pytest.mark.parametrize("placement", [{}, EVERY_LAYER], ids=["default", "every layer"])
def test_int8_with_fp16_loses_no_more_than_what_torch_simulates(
    family: str, stem: str, placement: dict
) -> None:
    net = network(family, stem, placement)
    exact = simulated(tiny_model(family, stem).net)
    loss = signal_to_noise(exact, simulated(net))
    assert signal_to_noise(exact, run(to_fp16(lowered(net)), IMAGES)) > loss - CHANCE


def test_first_layers_agree_closely_with_fp32_types() -> None:
    """Only near the image; further on rounding has been drawn anew."""
    net = network("yolov5", "conv", EVERY_LAYER)
    found = []
    for model in (lowered(net), to_fp16(lowered(net))):
        (conv,) = (node for node in model.graph.node if node.name == "/net/model.1/conv/Conv")
        kind = types(model)[conv.output[0]]
        value = onnx.helper.make_tensor_value_info(conv.output[0], kind, None)
        del model.graph.output[:]
        model.graph.output.append(value)
        found.append([m.astype(np.float32) for m in run(model, IMAGES)])
    assert signal_to_noise(*found) > 40


@pytest.mark.parametrize(
    "lower",
    [lambda exported, net: exported.model, lower_minimal],
    ids=["float", "Q/DQ"],
)
def test_graphs_of_other_engines_have_a_typed_variant_too(lower) -> None:
    net = network("yolov5", "conv", EVERY_LAYER)
    model, exact = lower(export_float(net, 64), net), simulated(tiny_model().net)
    single, half = run(model, IMAGES), run(to_fp16(model), IMAGES)
    loss = min(signal_to_noise(exact, single), 54)  # half a step of FP16's mantissa
    assert signal_to_noise(single, half) > loss - APART - CHANCE


def test_the_model_that_is_given_stays() -> None:
    model = lowered(network("yolov5", "conv", EVERY_LAYER))
    before = model.SerializeToString(deterministic=True)
    to_fp16(model)
    assert model.SerializeToString(deterministic=True) == before


@pytest.mark.parametrize("stem", ["conv", "focus"])
def test_no_scale_is_below_fp16s_normal_numbers(stem: str) -> None:
    net = network("yolov5", stem, EVERY_LAYER)
    before, after = Lookup(lowered(net)), Lookup(to_fp16(lowered(net)))
    first, last = before.convolutions()[0], after.convolutions()[0]
    assert before.pair(first.input[1])[0].min() < SMALLEST, "else nothing is shown"
    for node in after.convolutions():
        for tensor in node.input[:2]:
            scale = after.pair(tensor)[0]
            assert scale.dtype == np.float16
            assert scale.min() >= SMALLEST
    for index, factor in ((0, 1 / 256), (1, 256)):
        wide, half = before.pair(first.input[index]), after.pair(last.input[index])
        np.testing.assert_allclose(half[0], wide[0] * factor, rtol=2**-11)
    np.testing.assert_array_equal(half[2], wide[2])
    assert all(wide[2].tolist() == half[2].tolist() for wide, half in weights(before, after))


def weights(*graphs: Lookup) -> list[tuple]:
    """Scale, zero-point and integers of every convolution's weight, in each of the graphs."""
    return list(zip(*([g.pair(n.input[1]) for n in g.convolutions()] for g in graphs), strict=True))


@pytest.mark.parametrize("per", ["channel", "tensor"])
def test_weights_of_a_tiny_channel_are_rounded_anew(per: str) -> None:
    """A scale of 2**-14 at least, and no weight is off by more than 2**-15."""
    net = network("yolov5", "conv", EVERY_LAYER)
    module = net.get_submodule("model.3.conv")
    assert isinstance(module, QuantConv2d)
    with torch.no_grad():
        module.weight[0] *= 1e-3 / module.weight[0].abs().max()
        module.weight[1] = 0
        if per == "tensor":
            module.weight *= 1e-3 / module.weight.abs().max()
    low, high = module.weight.detach().flatten(1).aminmax(dim=1)
    if per == "tensor":
        low, high = low.min(), high.max()
    module.weight_quantizer.set_range(low, high)
    graph = Lookup(to_fp16(lowered(net)))
    (node,) = (n for n in graph.convolutions() if n.name == "/net/model.3/conv/Conv")
    scale, _, integers = graph.pair(node.input[1])
    assert scale.min() == SMALLEST
    axes = (-1, 1, 1, 1) if scale.ndim else ()
    found = integers * scale.astype(np.float32).reshape(axes)
    tiny = slice(0, 2) if per == "channel" else slice(None)
    error = np.abs(found - module.weight.detach().numpy())[tiny]
    assert error.max() <= 2**-15 + 1e-3 / 127 / 2
    assert np.abs(integers[0]).max() == round(1e-3 / SMALLEST) or per == "tensor"
    assert not integers[1].any()


@pytest.mark.parametrize("amax", [1e-4, 1e7])
def test_activation_scale_that_fp16_has_not(amax: float) -> None:
    net = network("yolov5", "conv", EVERY_LAYER)
    quantizer = net.get_submodule("model.3.conv").input_quantizer
    quantizer.set_range(torch.tensor(-amax), torch.tensor(amax))
    with pytest.raises(PolicyError, match=r"/net/model\.2/cv3/act/Mul_output_0.*keep") as caught:
        to_fp16(lowered(net))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["weight", "bias"])
def test_values_that_fp16_has_not(kind: str) -> None:
    net = tiny_model().net
    with torch.no_grad():
        getattr(net.get_submodule("model.3.conv"), kind).view(-1)[0] = -70000
    with pytest.raises(PolicyError, match=rf"model\.3\.conv\.{kind}.*7e\+04") as caught:
        to_fp16(lowered(net))
    assert "\n" not in str(caught.value)
