"""INT4 weights in ONNX: the same numbers as in INT8, and what torch simulates."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx_graphs import run
from rounding import MANY, typical
from shallow_net import ALL, POLICIES, outputs, shallow
from torch import nn

from yoloq.graph.export import export_float
from yoloq.graph.int4 import to_int4
from yoloq.graph.lower import lower_minimal
from yoloq.quant.policy import Policy, Rule
from yoloq.quant.spec import ACTIVATION, WEIGHT, PerTensor

pytestmark = pytest.mark.usefixtures("one_thread")

W4 = replace(WEIGHT, bits=4)
FEW = {
    "everything": POLICIES["4-bit weights"],
    "some": Policy((ALL, Rule("c3", W4, ACTIVATION))),
    "two bits, one scale": Policy(
        (Rule("*", replace(WEIGHT, bits=2, granularity=PerTensor()), ACTIVATION),)
    ),
}


def whole(net: nn.Module) -> onnx.ModelProto:
    return lower_minimal(export_float(net, 64), net)


def weights(model: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    named = {tensor.name: tensor for tensor in model.graph.initializer}
    read = (n.input[0] for n in model.graph.node if n.op_type == "DequantizeLinear")
    return {name: named[name] for name in read if name in named}


@pytest.mark.parametrize("policy", FEW.values(), ids=FEW)
def test_it_computes_what_int8_does_and_torch_simulates(policy: Policy) -> None:
    net, _ = shallow(policy)
    before = whole(net)
    small = to_int4(before)
    found = run(small, MANY)
    assert all(map(np.array_equal, found, run(before, MANY)))
    assert typical(outputs(net), found) >= 45


def test_weights_are_two_a_byte_and_no_others_are_touched() -> None:
    net, _ = shallow(FEW["some"])
    before = whole(net)
    small = to_int4(before)
    kinds = {name: tensor.data_type for name, tensor in weights(small).items()}
    four = {name for name, kind in kinds.items() if kind == onnx.TensorProto.INT4}
    assert four == {name for name in kinds if "c3" in name} and len(four) < len(kinds)
    assert set(kinds.values()) == {onnx.TensorProto.INT4, onnx.TensorProto.INT8}
    for name in four:
        old, new = weights(before)[name], weights(small)[name]
        values = numpy_helper.to_array(old)
        assert len(new.raw_data) == (values.size + 1) // 2
        assert np.array_equal(numpy_helper.to_array(new).astype(np.int8), values)
    assert {o.domain: o.version for o in small.opset_import}[""] == 21 and small.ir_version >= 10
    assert {t.data_type for t in weights(before).values()} == {onnx.TensorProto.INT8}


def test_eight_bits_stay_eight() -> None:
    net, _ = shallow(POLICIES["everything"])
    kinds = {tensor.data_type for tensor in weights(to_int4(whole(net))).values()}
    assert kinds == {onnx.TensorProto.INT8}
