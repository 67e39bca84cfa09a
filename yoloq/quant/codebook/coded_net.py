"""A network whose convolutions have weights from codebooks, fitted to what calibration images show.

Convolution by convolution in the order of the pass: weights that make up for errors in front of
them, k-means weighted by what each column reads, entries chosen with their errors carried on, and
tables fitted to the output (`carried.py`, `refit.py`). Without images only k-means is done.
"""

import copy
from collections.abc import Iterable, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from yoloq.base.say import progress
from yoloq.models.layered import LayeredNet
from yoloq.models.load import LoadedModel
from yoloq.quant.codebook import BookSpec
from yoloq.quant.codebook.coded import Coded, filled, in_half
from yoloq.quant.codebook.kmeans import kmeans, nearest
from yoloq.quant.codebook.reads import reads_of
from yoloq.quant.codebook.refit import refitted
from yoloq.quant.modules import QuantConv2d
from yoloq.quant.policy import replace as put
from yoloq.quant.refine.walk import Block, walk


def code_network(
    model: LoadedModel, specs: Mapping[str, BookSpec], batches: Iterable[Tensor], seed: int
) -> tuple[LoadedModel, dict[str, Coded]]:
    """A copy of a float model with coded weights, and their codes; shows its progress.

    Args:
        model: fused, in eval mode.
        specs: convolutions to code, in the order they run.
        batches: (N, 3, H, W) floats as the network takes them, all kept in memory; none: the
            weights alone say which entries there are.
    """
    own = replace(model, net=copy.deepcopy(model.net))
    reference, net = model.net, own.net
    assert isinstance(net, LayeredNet) and isinstance(reference, LayeredNet)
    for name in specs:
        conv = net.get_submodule(name)
        assert isinstance(conv, nn.Conv2d)
        put(net, name, QuantConv2d.of(conv, nn.Identity(), nn.Identity()))
    codes: dict[str, Coded] = {}
    with progress("codebook", len(specs), "convolutions") as advance:
        for block in walk(reference, net, tuple(specs), tuple(batches), model.head, seed):
            for name in block.layers:
                codes[name] = code = _coded(block, name, specs[name])
                with torch.no_grad():
                    block.conv(name).weight.copy_(code.weight)
                advance(1)
    for name in specs:
        put(net, name, _plain(net.get_submodule(name)))
    return own, codes


def _plain(conv: nn.Module) -> nn.Conv2d:
    assert isinstance(conv, QuantConv2d)
    return conv.float_conv()


def _coded(block: Block, name: str, spec: BookSpec) -> Coded:
    """The codes of one convolution, from what it reads in a block."""
    if not block.states:
        return _by_weights_alone(block.conv(name).weight, spec, block.random)
    reads = reads_of(block, name, spec.dim)
    tables = _tables(reads.weight, reads.importance, spec, block.random)
    numbers = reads.chosen(tables)
    tables = refitted(reads.weight, tables, numbers, reads.times_moments, reads.importance)
    return Coded(in_half(tables), numbers, block.conv(name).weight.shape)


def _by_weights_alone(weight: Tensor, spec: BookSpec, random: torch.Generator) -> Coded:
    columns = filled(weight.detach().flatten(1), spec.dim)
    tables = _tables(columns, torch.ones_like(columns), spec, random)
    numbers = nearest(_runs(columns, spec.dim, len(tables)), tables).view(len(columns), -1)
    return Coded(in_half(tables), numbers, weight.shape)


def _tables(weight: Tensor, importance: Tensor, spec: BookSpec, random: torch.Generator) -> Tensor:
    """k-means of a weight (channels, columns): (tables, entries, dim)."""
    count = spec.tables(*weight.shape)
    weights = _runs(importance, spec.dim, count).mean(2)
    points = _runs(weight, spec.dim, count)
    return kmeans(points.float(), weights.float(), spec.entries, random).to(weight)


def _runs(columns: Tensor, dim: int, tables: int) -> Tensor:
    """(channels, columns) as points (tables, N, dim)."""
    return columns.reshape(tables, -1, dim)
