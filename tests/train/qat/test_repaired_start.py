"""QAT with batch norm kept starts at what PTQ repaired."""

import pytest
import torch
from tiny_quant import tiny_quantized

from yoloq.train.qat.batch_norm import FoldedConv2d

pytestmark = pytest.mark.usefixtures("one_thread")


def test_repaired_weights_and_biases_fold_to_themselves() -> None:
    quantized = tiny_quantized().model.net.get_submodule("model.3.conv")
    conv = torch.nn.Conv2d(quantized.in_channels, quantized.out_channels, 3, 2, 1, bias=False)
    bn = torch.nn.BatchNorm2d(quantized.out_channels).eval()
    bn.weight.data.uniform_(0.5, 2.0)
    bn.running_var.uniform_(0.5, 2.0)
    folded = FoldedConv2d.join(conv, bn, quantized)
    weight, bias = folded.folded()
    torch.testing.assert_close(weight, quantized.weight, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(bias, quantized.bias, rtol=1e-5, atol=1e-7)


def test_a_channel_whose_norm_is_zero_keeps_its_weight() -> None:
    quantized = tiny_quantized().model.net.get_submodule("model.3.conv")
    conv = torch.nn.Conv2d(quantized.in_channels, quantized.out_channels, 3, 2, 1, bias=False)
    bn = torch.nn.BatchNorm2d(quantized.out_channels).eval()
    bn.weight.data[0] = 0.0
    before = conv.weight.detach().clone()
    folded = FoldedConv2d.join(conv, bn, quantized)
    assert torch.equal(folded.weight[0], before[0])
    assert folded.weight.isfinite().all()
