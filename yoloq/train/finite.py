"""Where numbers stopped being finite."""

import torch
from torch import Tensor, nn

from yoloq.models.to_input import scaled

REMEDY = "lower --lr and start anew with --force"


def describe_divergence(net: nn.Module, images: Tensor, place: str) -> str:
    """One line for a step whose loss or gradient is NaN or infinite.

    Args:
        net: as it was in that step.
        images: the step's, uint8 (N, 3, H, W).
        place: epoch and step.
    """
    parameters = list(net.named_parameters())
    if name := _first([(name, tensor.detach()) for name, tensor in parameters]):
        return f"the weights of {_layer(name)} are not finite in {place}; {REMEDY}"
    if name := first_output(net, images):
        return f"the loss is not finite in {place}: the output of {name} is not; {REMEDY}"
    if name := _first([(name, p.grad) for name, p in parameters if p.grad is not None]):
        return f"the gradient of {_layer(name)} is not finite in {place}; {REMEDY}"
    return f"the loss is not finite in {place}; {REMEDY}"


@torch.no_grad()
def first_output(net: nn.Module, images: Tensor) -> str | None:
    """Name of the first module without children that gives a number that is not finite."""
    found: list[str] = []

    def look(name: str, output: object) -> None:
        if not found and isinstance(output, Tensor) and not torch.isfinite(output).all():
            found.append(name)

    handles = [
        module.register_forward_hook(lambda module, args, output, name=name: look(name, output))
        for name, module in net.named_modules()
        if isinstance(module, nn.Conv2d) or not any(module.children())
    ]
    try:
        net(scaled(images, next(net.parameters()).device))
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else None


def _first(tensors: list[tuple[str, Tensor]]) -> str | None:
    return next((name for name, tensor in tensors if not torch.isfinite(tensor).all()), None)


def _layer(parameter: str) -> str:
    return parameter.rpartition(".")[0]
