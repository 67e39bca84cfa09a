"""Batch norm kept while a quantized network is trained: folding and re-estimation."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from yoloq.models.yolov5.blocks import Conv
from yoloq.quant.affine import weight_range
from yoloq.quant.modules import QuantConv2d
from yoloq.quant.quantizer import TensorQuantizer
from yoloq.quant.spec import WEIGHT
from yoloq.train.qat.batch_norm import FoldedConv2d, keep_batch_norm
from yoloq.train.qat.reestimate import reestimate

pytestmark = pytest.mark.usefixtures("one_thread")


def unfused(layers: int = 2) -> nn.Sequential:
    """Two blocks whose norms have settled on other statistics than the weights'."""
    torch.manual_seed(0)
    net = nn.Sequential(Conv(3, 4, 3), Conv(4, 5, 1))
    for block in net:
        block.bn.running_mean.normal_()
        block.bn.running_var.uniform_(0.5, 2)
        block.bn.weight.data.uniform_(-1, 1)
        block.bn.bias.data.normal_()
    return net.eval()


def folded(net: nn.Sequential, quantized: bool = False) -> nn.Sequential:
    """The same with its norms kept in folded convolutions."""
    student = copy.deepcopy(net)
    for block in student:
        weight = TensorQuantizer(WEIGHT) if quantized else nn.Identity()
        fused = fuse_conv_bn_eval(block.conv, block.bn)
        block.conv = QuantConv2d.of(fused, nn.Identity(), weight)
        block.bn = nn.Identity()
    assert keep_batch_norm(student, net) == 2
    for block in student:
        if quantized:
            block.conv.weight_quantizer.set_range(
                *weight_range(block.conv.folded()[0].detach(), WEIGHT)
            )
    return student


def batches() -> list[Tensor]:
    random = torch.Generator().manual_seed(1)
    return [torch.randn(4, 3, 8, 8, generator=random) * 3 + 1 for _ in range(3)]


def test_folding_computes_what_the_norm_does() -> None:
    net = unfused()
    x = batches()[0]
    torch.testing.assert_close(folded(net)(x), net(x))


def test_a_bias_before_the_norm_is_kept() -> None:
    net = unfused()
    net[0].conv.bias = nn.Parameter(torch.randn(4))
    x = batches()[0]
    torch.testing.assert_close(folded(net)(x), net(x))
    student = folded(net)
    reestimate(student, [x])
    expected = estimated(net, [x])
    torch.testing.assert_close(student[0].conv.bn.running_mean, expected[0].bn.running_mean)


def estimated(net: nn.Sequential, given: list[Tensor]) -> nn.Sequential:
    """Torch's own: training mode, the mean of the batches' statistics."""
    expected = copy.deepcopy(net).train()
    for block in expected:
        block.bn.momentum = None
        block.bn.reset_running_stats()
    with torch.no_grad():
        for x in given:
            expected(x)
    for block, x in zip(expected, given, strict=False):  # torch counts with n / (n - 1)
        n = x.numel() // x.shape[1]
        block.bn.running_var *= (n - 1) / n
    return expected


def test_reestimation_is_that_of_torch() -> None:
    student = folded(unfused())
    reestimate(student, batches())
    for ours, theirs in zip(student, estimated(unfused(), batches()), strict=True):
        assert isinstance(ours.conv, FoldedConv2d)
        bn = ours.conv.bn
        torch.testing.assert_close(bn.running_mean, theirs.bn.running_mean, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(bn.running_var, theirs.bn.running_var, rtol=1e-4, atol=1e-4)
        assert ours.conv.seen is None


def test_reestimation_makes_outputs_normal_again_under_coarse_weights() -> None:
    student = folded(unfused(), quantized=True)
    x = torch.cat(batches())
    reestimate(student, [x])
    first = student[0].conv
    y = first(x)
    mean, deviation = y.mean((0, 2, 3)), y.std((0, 2, 3))
    torch.testing.assert_close(mean, first.bn.bias, rtol=0, atol=0.02)
    torch.testing.assert_close(deviation, first.bn.weight.abs(), rtol=0.02, atol=0.02)


def test_a_channel_that_the_norm_switches_off_keeps_its_statistics() -> None:
    net = unfused()
    net[0].bn.weight.data[2] = 0
    student = folded(net)
    before = student[0].conv.bn.running_var.clone()
    reestimate(student, batches())
    after = student[0].conv.bn.running_var
    assert torch.isclose(after[2], before[2]) and not torch.isclose(after[0], before[0])
    assert torch.isfinite(student(batches()[0])).all()
