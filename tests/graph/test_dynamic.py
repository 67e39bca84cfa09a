"""The graph whose ranges are taken at run time, against the same simulated by torch."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx_graphs import run
from rounding import MANY, typical
from shallow_net import ALL, ASYMMETRIC, PER_TENSOR, outputs, shallow
from tiny_quant import signal_to_noise, tiny_quantized

from yoloq.graph.dynamic import lower_dynamic
from yoloq.graph.export import export_float
from yoloq.quant.adaptive import DynamicQuantizer, adaptive
from yoloq.quant.policy import Policy, Rule, resolve
from yoloq.quant.spec import WEIGHT
from yoloq.quant.trace import trace

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("weights", [WEIGHT, PER_TENSOR], ids=["per channel", "per tensor"])
@pytest.mark.parametrize("stem", ["conv", "focus"])
def test_it_computes_what_torch_simulates(weights, stem: str) -> None:
    policy = Policy((Rule("*", weights, ASYMMETRIC),))
    net, _ = shallow(policy, stem)
    placement = resolve(policy, trace(shallow(None, stem)[0]))
    found = run(lower_dynamic(export_float(net, 64), net), MANY)
    with adaptive(net, placement, lambda name, quantizer: DynamicQuantizer(quantizer.spec)):
        # batch by batch: the range is that of the one image that an engine sees
        wanted = outputs(net)
    assert typical(wanted, found) > 60


def test_what_is_in_float_stays_there_and_siblings_share_the_rounding() -> None:
    quantized = tiny_quantized()
    net = quantized.model.net
    model = lower_dynamic(export_float(net, 64), net)
    counts = Counter(node.op_type for node in model.graph.node)
    planned = [name for name, plan in quantized.placement.layers.items() if plan.quantized]
    assert counts["ConvInteger"] == len(planned) == 55
    assert counts["Conv"] == len(quantized.placement.float_layers) == 5
    groups = {quantized.placement.layers[name].group for name in planned}
    assert counts["DynamicQuantizeLinear"] == len(groups) < 55
    assert "QuantizeLinear" not in counts


def test_weights_alone_are_dequantized() -> None:
    net, _ = shallow(Policy((Rule("*", WEIGHT, None),)))
    model = lower_dynamic(export_float(net, 64), net)
    counts = Counter(node.op_type for node in model.graph.node)
    assert counts["DequantizeLinear"] == counts["Conv"] == 9
    wanted = outputs(net)
    assert signal_to_noise(wanted, run(model, MANY)) > 100


def test_weights_are_those_of_the_calibrated_network(tmp_path: Path) -> None:
    net, _ = shallow(Policy((ALL,)))
    model = lower_dynamic(export_float(net, 64), net)
    constants = {each.name: onnx.numpy_helper.to_array(each) for each in model.graph.initializer}
    first = next(node for node in model.graph.node if node.op_type == "ConvInteger")
    conv = net.get_submodule("stem.conv")
    scale = conv.weight.detach().abs().amax((1, 2, 3)).numpy() / 127
    wanted = np.rint(conv.weight.detach().numpy() / scale[:, None, None, None])
    assert constants[first.input[1]].dtype == np.int8
    assert np.array_equal(constants[first.input[1]], wanted)
