"""A calibrated model: float weights, policy and ranges, in memory and on disk."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from yoloq.base.errors import CheckpointError, PolicyError
from yoloq.base.own_files import MAKE
from yoloq.models.load import LoadedModel, load_model, save_model
from yoloq.quant.calibrate import get_ranges, set_ranges
from yoloq.quant.policy import Placement, Policy, apply, resolve
from yoloq.quant.trace import Op, trace

OutputRanges = dict[str, tuple[float, float]]


@dataclass(frozen=True)
class QuantizedModel:
    """A network with quantizers, and what is known of it.

    Attributes:
        model: its `net` carries the quantizers; its state dict is that of the fused float network.
        placement: the policy, resolved.
        outputs: range of each convolution's output before the activation, which engines that keep
            whole chains in integers need.
        ops: the trace of the float network (`trace.trace`).
        moved: factors of the output channels of convolutions whose scales were moved before the
            calibration, by name; the float network that it rounds is `as_moved` by them.
    """

    model: LoadedModel
    policy: Policy
    placement: Placement
    outputs: OutputRanges
    ops: Sequence[Op]
    moved: Mapping[str, Sequence[float]] = field(default_factory=dict)


def quantize_model(
    model: LoadedModel,
    policy: Policy,
    ops: Sequence[Op] | None = None,
    placement: Placement | None = None,
) -> QuantizedModel:
    """Put the policy's quantizers into `model.net`, in place, not yet calibrated.

    Args:
        ops: the trace of the network, where there is one already.
        placement: the policy resolved against it, where it is already.

    Raises:
        PolicyError: a pattern of the policy matches no convolution.
    """
    ops = trace(model.net) if ops is None else ops
    placement = resolve(policy, ops) if placement is None else placement
    apply(model.net, placement, policy.residual)
    return QuantizedModel(model, policy, placement, {}, ops)


def save_quantized(file: Path, quantized: QuantizedModel, **extra: Any) -> None:
    """Write a state dict, the policy and the ranges; nothing pickled."""
    ranges = {name: pair.tolist() for name, pair in get_ranges(quantized.model.net).items()}
    quantization = {
        "policy": quantized.policy.to_json(),
        "ranges": ranges,
        "outputs": quantized.outputs,
        "moved": dict(quantized.moved),
    }
    save_model(file, quantized.model, quantization=quantization, **extra)


def is_quantized(model: LoadedModel) -> bool:
    """Whether the file of a model says how it is quantized."""
    return "quantization" in model.extra


def load_quantized(file: Path, ops: Sequence[Op] | None = None) -> QuantizedModel:
    """Read what `save_quantized` wrote.

    Args:
        ops: the trace of the network, where there is one already.

    Raises:
        CheckpointError: the file is another one, or damaged.
    """
    model = load_model(file)
    if not is_quantized(model):
        raise CheckpointError(f"{file}: holds no quantized model; make it with `{MAKE} ptq`")
    extra = {key: value for key, value in model.extra.items() if key != "quantization"}
    try:
        return _restored(replace(model, extra=extra), model.extra["quantization"], ops)
    except (AttributeError, KeyError, TypeError, ValueError, PolicyError) as error:
        raise CheckpointError(
            f"{file}: its policy or ranges are damaged ({error}); make it again with `{MAKE} ptq`"
        ) from None


def _restored(
    model: LoadedModel, saved: Mapping[str, Any], ops: Sequence[Op] | None
) -> QuantizedModel:
    quantized = quantize_model(model, Policy.from_json(saved["policy"]), ops)
    set_ranges(model.net, {n: torch.tensor(pair) for n, pair in saved["ranges"].items()})
    outputs = {name: (low, high) for name, (low, high) in saved["outputs"].items()}
    return replace(quantized, outputs=outputs, moved=saved.get("moved", {}))
