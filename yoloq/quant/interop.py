"""Amax state dicts of pytorch-quantization and NVIDIA ModelOpt, both ways.

Both packages keep the calibrated bound of |x| in a buffer `_amax` of each module's own quantizers:
a scalar per tensor, (channels, 1, 1, 1) per output channel. Ranges that these dicts cannot express
(asymmetric ones) are refused.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from yoloq.base.errors import CheckpointError, PolicyError
from yoloq.base.files import LFS_ADVICE, is_lfs_pointer, replace_when_whole
from yoloq.base.machine import raise_memory
from yoloq.base.own_files import MAKE
from yoloq.quant.modules import QuantConv2d
from yoloq.quant.quantizer import TensorQuantizer
from yoloq.quant.spec import PerTensor

STYLES = {  # name -> what an amax is called behind the convolution's name
    "pytorch-quantization": ("._input_quantizer._amax", "._weight_quantizer._amax"),
    "modelopt": (".input_quantizer._amax", ".weight_quantizer._amax"),
}
NESTED = ("state_dict", "model_state_dict")  # keys under which checkpoints hold a state dict
NAMED = 3  # names that an error lists


def to_state_dict(net: nn.Module, style: str = "pytorch-quantization") -> dict[str, Tensor]:
    """Amax of every quantizer of `net`; one that is shared is written under each convolution.

    Args:
        net: with calibrated quantizers, such as `QuantizedModel.model.net`.
        style: a key of `STYLES`.

    Raises:
        PolicyError: a quantizer is asymmetric; names it.
        RuntimeError: a quantizer is not calibrated.
    """
    tensors = {}
    for name, side in _sides(net, style).items():
        quantizer = side.quantizer
        if not quantizer.spec.symmetric:
            raise PolicyError(
                f"{name}: an asymmetric range has no amax; calibrate "
                f"as for TensorRT: {MAKE} ptq ENGINE=tensorrt"
            )
        if quantizer.amax is None:
            raise RuntimeError(f"{name} is not calibrated (amax is None)")
        tensors[name] = side.foreign(quantizer.amax).cpu().clone()
    return tensors


def load_state_dict(net: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Give the quantizers of `net` the amax values of either package; all of them or none.

    Entries that are no amax, such as weights, are left out.

    Args:
        net: with the quantizers of a policy, calibrated or not.
        tensors: name -> amax; a vector per channel may also be flat.

    Raises:
        PolicyError: names or shapes do not fit the quantizers, a value is negative or not finite,
            or convolutions that share a quantizer have different values; names them.
    """
    found = {name: amax for name, amax in tensors.items() if name.endswith("_amax")}
    expected = _sides(net, _style(found))
    _check_names(found.keys(), expected.keys())
    values: dict[TensorQuantizer, tuple[str, Tensor]] = {}
    for name, side in expected.items():
        amax = side.own(name, found[name])
        first, earlier = values.setdefault(side.quantizer, (name, amax))
        if not torch.allclose(earlier, amax, rtol=1e-5, atol=0):
            raise PolicyError(
                f"{first} and {name} read one tensor and share a quantizer here, but differ; "
                "give both the larger amax"
            )
    device = next(net.parameters()).device
    for quantizer, (_, value) in values.items():
        amax = value.to(device)
        quantizer.set_range(-amax, amax)


def read_amax(file: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file, or of a .pt file without running its code.

    Raises:
        CheckpointError: the file cannot be read, or holds no state dict.
    """
    if is_lfs_pointer(file):
        raise CheckpointError(f"{file}: {LFS_ADVICE}")
    try:
        return _read(file)
    except Exception as error:  # torch and safetensors raise many kinds
        raise_memory(error)
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise CheckpointError(f"{file}: cannot be read as tensors ({reason})") from None


def write_amax(file: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors whole, as .safetensors or, with any other suffix, for `torch.load`."""
    with replace_when_whole(file) as temporary, open(temporary, "wb") as stream:
        if file.suffix == ".safetensors":
            from safetensors.torch import save

            stream.write(save(dict(tensors)))
        else:
            torch.save(dict(tensors), stream)


def _read(file: Path) -> dict[str, Tensor]:
    if file.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(file)
    content = torch.load(file, map_location="cpu", weights_only=True)
    if isinstance(content, Mapping):
        content = next((content[key] for key in NESTED if key in content), content)
    if not isinstance(content, Mapping):
        raise ValueError(f"it holds a {type(content).__name__}, not a state dict")
    return {str(name): value for name, value in content.items() if isinstance(value, Tensor)}


@dataclass(frozen=True)
class _Side:
    """One quantized side of a convolution, and the shape of its amax: () or (channels,)."""

    quantizer: TensorQuantizer
    shape: tuple[int, ...]

    def foreign(self, amax: Tensor) -> Tensor:
        """The amax in the shape that both packages keep."""
        return amax.reshape(*self.shape, 1, 1, 1) if self.shape else amax.reshape(())

    def own(self, name: str, amax: Tensor) -> Tensor:
        """A foreign amax in the quantizer's shape, on the CPU.

        Raises:
            PolicyError: another shape or an impossible value.
        """
        flat = self.shape or (1,)
        if tuple(amax.shape) not in (self.shape, flat, (*flat, 1, 1, 1)):
            wanted = f"{flat[0]} output channels" if self.shape else "a whole tensor"
            raise PolicyError(
                f"{name} has the shape {tuple(amax.shape)}, but the policy quantizes per {wanted}"
            )
        if not bool((amax.isfinite() & (amax >= 0)).all()):
            raise PolicyError(f"{name} holds a negative, infinite or NaN amax; calibrate again")
        return amax.detach().cpu().float().reshape(self.shape)


def _sides(net: nn.Module, style: str) -> dict[str, _Side]:
    """The quantized sides of all convolutions, by their names in a style."""
    of_input, of_weight = STYLES[style]
    sides = {}
    for name, conv in net.named_modules():
        if isinstance(conv, QuantConv2d):
            both = {of_input: conv.input_quantizer, of_weight: conv.weight_quantizer}
            for suffix, quantizer in both.items():
                if isinstance(quantizer, TensorQuantizer):
                    per_tensor = quantizer.spec.granularity == PerTensor()
                    shape = () if per_tensor else (conv.out_channels,)
                    sides[f"{name}{suffix}"] = _Side(quantizer, shape)
    return sides


def _style(names: Mapping[str, Tensor]) -> str:
    """The style whose suffixes all names have, or most of them where a name is odd."""
    counts = {style: sum(n.endswith(suffixes) for n in names) for style, suffixes in STYLES.items()}
    best = max(counts, key=lambda style: counts[style])
    if counts[best] == 0:
        endings = ", ".join(f"<conv>{suffixes[0]}" for suffixes in STYLES.values())
        raise PolicyError(f"the state dict holds no amax; expected names such as {endings}")
    return best


def _check_names(found: Iterable[str], expected: Iterable[str]) -> None:
    unknown, missing = sorted({*found} - {*expected}), sorted({*expected} - {*found})
    for what, names in (("unknown to", unknown), ("missing for", missing)):
        if names:
            listed = ", ".join(names[:NAMED]) + (", ..." if len(names) > NAMED else "")
            raise PolicyError(
                f"{len(names)} amax values are {what} the policy's quantizers: {listed}; "
                "use a policy that quantizes the same convolutions"
            )
