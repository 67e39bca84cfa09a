"""The residual addition as a module: what has a name can be found in a trace and be quantized."""

from torch import Tensor, nn


class Add(nn.Module):
    """The residual addition as a module, so that a quantizer can sit on its inputs."""

    def forward(self, residual: Tensor, y: Tensor) -> Tensor:
        return residual + y
