"""A calibrated model: float weights, policy and ranges, in memory and on disk."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from yoloq.base.errors import CheckpointError, PolicyError
from yoloq.models import LoadedModel, load_model, save_model
from yoloq.quant.calibrate import get_ranges, set_ranges
from yoloq.quant.policy import Placement, Policy, apply, resolve
from yoloq.quant.trace import trace

OutputRanges = dict[str, tuple[float, float]]


@dataclass(frozen=True)
class QuantizedModel:
    """`model.net` carries the quantizers; its state dict is that of the fused float network.

    `outputs` is the range of each convolution's output before the activation, which engines that
    keep whole chains in integers need.
    """

    model: LoadedModel
    policy: Policy
    placement: Placement
    outputs: OutputRanges


def quantize_model(model: LoadedModel, policy: Policy) -> QuantizedModel:
    """Put the policy's quantizers into `model.net`, in place, not yet calibrated.

    Raises:
        PolicyError: a pattern of the policy matches no convolution.
    """
    placement = resolve(policy, trace(model.net))
    apply(model.net, placement, policy.residual)
    return QuantizedModel(model, policy, placement, {})


def save_quantized(file: Path, quantized: QuantizedModel, **extra: Any) -> None:
    """Write a state dict, the policy and the ranges; nothing pickled."""
    ranges = {name: pair.tolist() for name, pair in get_ranges(quantized.model.net).items()}
    quantization = {
        "policy": quantized.policy.to_json(),
        "ranges": ranges,
        "outputs": quantized.outputs,
    }
    save_model(file, quantized.model, quantization=quantization, **extra)


def load_quantized(file: Path) -> QuantizedModel:
    """Read what `save_quantized` wrote.

    Raises:
        CheckpointError: the file is another one, or damaged.
    """
    model = load_model(file)
    if "quantization" not in model.extra:
        raise CheckpointError(f"{file}: holds no quantized model; make it with `make ptq`")
    extra = {key: value for key, value in model.extra.items() if key != "quantization"}
    try:
        return _restored(replace(model, extra=extra), model.extra["quantization"])
    except (AttributeError, KeyError, TypeError, ValueError, PolicyError) as error:
        raise CheckpointError(
            f"{file}: its policy or ranges are damaged ({error}); make it again with `make ptq`"
        ) from None


def _restored(model: LoadedModel, saved: Mapping[str, Any]) -> QuantizedModel:
    quantized = quantize_model(model, Policy.from_json(saved["policy"]))
    set_ranges(model.net, {n: torch.tensor(pair) for n, pair in saved["ranges"].items()})
    outputs = {name: (low, high) for name, (low, high) in saved["outputs"].items()}
    return replace(quantized, outputs=outputs)
