"""Walking a float network and its quantized copy side by side, block by block.

What a block reads in both is kept, so that each block is repaired with the error that really
reaches it, and nothing is run twice from the image.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from yoloq.models.heads import Head
from yoloq.models.layered import IMAGE, LayeredNet, State
from yoloq.quant.modules import QuantConv2d, is_on
from yoloq.quant.policy import Placement
from yoloq.quant.refine.place_weights import PlaceWeights


@dataclass(frozen=True)
class Call:
    """One batch through a module of the float network and of the quantized one.

    `reference` and `read` are what the module reads there and here, `target` and `made` what it
    gives: (N, C, H, W).
    """

    reference: Tensor
    target: Tensor
    read: Tensor
    made: Tensor


@dataclass(frozen=True)
class Block:
    """A numbered block of both networks.

    Attributes:
        name: `model.4`.
        layers: those of its convolutions that are to be changed, by their names in the network, in
            the order they run.
        states: what it reads in the float network and in the quantized one, a batch each.
        random: of its own, so that a block is repaired alike whatever was done before it.
        weights: how much each place of what its modules give counts.
    """

    name: str
    layers: tuple[str, ...]
    reference: LayeredNet
    quantized: LayeredNet
    states: tuple[tuple[State, State], ...]
    random: torch.Generator
    weights: PlaceWeights

    @property
    def position(self) -> int:
        """Its number."""
        return int(self.name.rpartition(".")[2])

    @property
    def images(self) -> int:
        """How many it sees."""
        return sum(_size(state) for state, _ in self.states)

    def conv(self, name: str) -> QuantConv2d:
        """A quantized convolution of it."""
        found = self.quantized.get_submodule(name)
        assert isinstance(found, QuantConv2d)
        return found

    def calls(self, name: str) -> Iterator[Call]:
        """What flows through a module of the block as the networks are now, call by call.

        A module that is called several times in a pass gives as many. Tensors are copies: an
        activation behind a convolution may work in place.
        """
        for reference, quantized in self.states:
            there = self._watch(self.reference, name, reference)
            here = self._watch(self.quantized, name, quantized)
            for (x, y), (read, made) in zip(there, here, strict=True):
                yield Call(x, y, read, made)

    def _watch(self, net: LayeredNet, name: str, state: State) -> list[tuple[Tensor, Tensor]]:
        seen: list[tuple[Tensor, Tensor]] = []

        def keep(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            seen.append((args[0].clone(), output.clone()))

        handle = net.get_submodule(name).register_forward_hook(keep)
        try:
            _advanced(net, state, self.position)
        finally:
            handle.remove()
        return seen


def walk(
    reference: LayeredNet,
    quantized: LayeredNet,
    layers: Collection[str],
    batches: Iterable[Tensor],
    head: Head,
    seed: int,
) -> Iterator[Block]:
    """Every block that holds some of the named convolutions, in the order of the pass.

    What the consumer changed in a block counts for all that come behind it. Memory is bounded by
    what two copies of the batches take at the widest place of the network.

    Args:
        layers: `QuantConv2d`s of `quantized`, in the order they run.
        batches: (N, 3, H, W) floats as the network takes them.
        head: of the raw maps.
    """
    batches = tuple(batches)
    weights = PlaceWeights(reference, head, batches, seed)
    states = tuple(({IMAGE: batch}, {IMAGE: batch}) for batch in batches)
    for position in range(len(reference.model)):
        name = f"model.{position}"
        inside = tuple(layer for layer in layers if layer.startswith(f"{name}."))
        if inside:
            random = torch.Generator().manual_seed(seed + position)
            yield Block(name, inside, reference, quantized, states, random, weights)
        states = tuple(
            (_advanced(reference, there, position), _advanced(quantized, here, position))
            for there, here in states
        )


def with_integer_weights(net: nn.Module, placement: Placement) -> list[str]:
    """The convolutions whose weights are quantized, in the order they run."""
    modules = dict(net.named_modules())
    return [name for name in placement.layers if _has_integer_weights(modules[name])]


def _has_integer_weights(module: nn.Module) -> bool:
    return isinstance(module, QuantConv2d) and is_on(module.weight_quantizer)


def _advanced(net: LayeredNet, state: State, position: int) -> State:
    with torch.no_grad():  # not inference mode: a fit takes gradients of what is kept
        return net.advance(state, position, position + 1)


def _size(state: State) -> int:
    return next(len(x) for x in state.values() if isinstance(x, Tensor))
