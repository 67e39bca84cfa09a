"""A quantized network in the form that is trained, and back to the form that is saved."""

import copy
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from yoloq.quant.modules import QuantConv2d, quantizers
from yoloq.quant.policy import matches
from yoloq.quant.quantized import QuantizedModel
from yoloq.train.qat.batch_norm import FoldedConv2d, keep_batch_norm
from yoloq.train.qat.quantizers import FixedQuantizer, FollowingQuantizer
from yoloq.train.qat.ranges import Mode, trainable_ranges


def make_student(
    calibrated: QuantizedModel,
    ranges: Mode,
    unfused: nn.Module | None = None,
    only: Sequence[str] = (),
) -> nn.Module:
    """A copy of the calibrated network with ranges, norms and gradients as training wants them.

    Args:
        calibrated: where training starts.
        ranges: what happens to the activations' ranges.
        unfused: the network before fusing, to keep its batch norm with frozen statistics.
        only: patterns of the convolutions to train; none: everything.
    """
    net = copy.deepcopy(calibrated.model.net)
    if unfused is not None:
        keep_batch_norm(net, copy.deepcopy(unfused))
    trainable_ranges(net, ranges, calibrated.placement.image_reader)
    net.requires_grad_(not only)
    for name, module in net.named_modules():
        if isinstance(module, nn.Conv2d) and is_chosen(name, only):
            module.requires_grad_(True)
    return net.eval()


def is_chosen(name: str, only: Sequence[str]) -> bool:
    """Whether a convolution is one that is to be trained; without patterns all are."""
    return not only or any(matches(name, pattern) for pattern in only)


@torch.no_grad()
def settled(net: nn.Module, calibrated: QuantizedModel) -> QuantizedModel:
    """A plain quantized model with a student's weights and ranges; it computes the same.

    Args:
        net: made by `make_student` from `calibrated`, then trained.
        calibrated: gives the form; not changed. Its output ranges stay and are no longer exact.
    """
    plain = copy.deepcopy(calibrated.model.net)
    kept = plain.state_dict()
    trained = {name: tensor for name, tensor in net.state_dict().items() if name in kept}
    for name, module in net.named_modules():
        if isinstance(module, FoldedConv2d):
            trained[f"{name}.weight"], trained[f"{name}.bias"] = module.folded()
    plain.load_state_dict(trained)
    for name, quantizer in quantizers(plain).items():
        low, high = _range(net.get_submodule(name), plain, name)
        quantizer.set_range(low.cpu(), high.cpu())
    return replace(calibrated, model=replace(calibrated.model, net=plain))


def _range(trained: nn.Module, plain: nn.Module, name: str) -> tuple[Tensor, Tensor]:
    """Range of a trained quantizer; a weight's that is not learned follows from the weight."""
    if isinstance(trained, FollowingQuantizer):
        conv = plain.get_submodule(name.rpartition(".")[0])
        assert isinstance(conv, QuantConv2d)
        return trained.range_of(conv.weight)
    assert isinstance(trained, FixedQuantizer)
    return trained.range_of()
