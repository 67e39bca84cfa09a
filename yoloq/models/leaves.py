"""Modules of torch that a detector may be made of, and what decides what each computes.

A row reads the attributes of a module, live or pickled, that its constructor takes. Sizes come
from the tensors, which are what is computed with. `inplace` is left out: where it would change a
result the file is refused (`models/load.py`).
"""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

State = Mapping[str, Any]
"""`vars` of a module: attributes, `_parameters`, `_buffers`, `_modules`."""
Read = Callable[[State], dict[str, Any]]


def _attributes(*names: str) -> Read:
    """Reads attributes by name; one that an older torch did not have keeps its default."""
    return lambda state: {name: state[name] for name in names if name in state}


def _parameter(state: State, name: str) -> Tensor | None:
    found: Tensor | None = state.get("_parameters", {}).get(name)
    return found


def _weight(state: State) -> Tensor:
    weight = _parameter(state, "weight")
    if weight is None:
        raise ValueError("has no weight")
    return weight


def _conv2d(state: State) -> dict[str, Any]:
    shape, groups = _weight(state).shape, int(state.get("groups", 1))
    return {
        "in_channels": shape[1] * groups,
        "out_channels": shape[0],
        "kernel_size": tuple(shape[2:]),
        "groups": groups,
        "bias": _parameter(state, "bias") is not None,
        **_attributes("stride", "dilation", "padding_mode")(state),
        "padding": _padding(state),
    }


def _padding(state: State) -> Any:
    """Padding of rows and columns; other modes than zeros read it from an attribute of its own."""
    if state.get("padding_mode", "zeros") == "zeros" or isinstance(state["padding"], str):
        return state["padding"]
    left, right, top, bottom = state["_reversed_padding_repeated_twice"]
    if (left, top) != (right, bottom):
        raise ValueError("pads its sides unequally")
    return (top, left)


def _conv_transpose2d(state: State) -> dict[str, Any]:
    shape, groups = _weight(state).shape, int(state.get("groups", 1))
    return {
        "in_channels": shape[0],
        "out_channels": shape[1] * groups,
        "kernel_size": tuple(shape[2:]),
        "groups": groups,
        "bias": _parameter(state, "bias") is not None,
        **_attributes("stride", "padding", "output_padding", "dilation")(state),
    }


def _batch_norm(state: State) -> dict[str, Any]:
    mean = state.get("_buffers", {}).get("running_mean")
    if mean is None:
        raise ValueError("has no running statistics, so that its result depends on the batch")
    affine = _parameter(state, "weight") is not None
    return {
        "num_features": len(mean),
        "affine": affine,
        **_attributes("eps", "momentum")(state),
    }


def _linear(state: State) -> dict[str, Any]:
    rows, columns = _weight(state).shape
    bias = _parameter(state, "bias") is not None
    return {"in_features": columns, "out_features": rows, "bias": bias}


def _layer_norm(state: State) -> dict[str, Any]:
    return {
        **_attributes("normalized_shape", "eps")(state),
        "elementwise_affine": _parameter(state, "weight") is not None,
        "bias": _parameter(state, "bias") is not None,
    }


def _group_norm(state: State) -> dict[str, Any]:
    affine = _parameter(state, "weight") is not None
    return {**_attributes("num_groups", "num_channels", "eps")(state), "affine": affine}


def _attention(state: State) -> dict[str, Any]:
    if _parameter(state, "in_proj_weight") is None or state.get("add_zero_attn"):
        raise ValueError("is of a form of attention that is not supported")
    return {
        **_attributes("embed_dim", "num_heads", "dropout", "batch_first")(state),
        "bias": _parameter(state, "in_proj_bias") is not None,
    }


def _prelu(state: State) -> dict[str, Any]:
    return {"num_parameters": len(_weight(state))}


def _relu6(inplace: bool = False, *, min_val: float = 0.0, max_val: float = 6.0) -> nn.Module:
    """ReLU6, whose constructor takes no bounds while its forward pass reads them."""
    made = nn.ReLU6(inplace)
    made.min_val, made.max_val = min_val, max_val
    return made


POOL = _attributes("kernel_size", "stride", "padding", "dilation", "ceil_mode")
AVERAGE = _attributes(
    "kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override"
)
NOTHING = _attributes()

Row = tuple[
    Callable[..., nn.Module], Read
]  # what builds a module, and the arguments it was built of
ACTIVATIONS: dict[str, Row] = {
    **{
        kind.__name__: (kind, NOTHING)
        for kind in (
            *(nn.SiLU, nn.ReLU, nn.Hardswish, nn.Hardsigmoid, nn.Mish, nn.Sigmoid, nn.Tanh),
            *(nn.SELU, nn.Softsign, nn.LogSigmoid, nn.Tanhshrink, nn.Identity),
        )
    },
    "ReLU6": (_relu6, _attributes("min_val", "max_val")),
    "LeakyReLU": (nn.LeakyReLU, _attributes("negative_slope")),
    "ELU": (nn.ELU, _attributes("alpha")),
    "CELU": (nn.CELU, _attributes("alpha")),
    "GELU": (nn.GELU, _attributes("approximate")),
    "Softplus": (nn.Softplus, _attributes("beta", "threshold")),
    "Hardtanh": (nn.Hardtanh, _attributes("min_val", "max_val")),
    "Hardshrink": (nn.Hardshrink, _attributes("lambd")),
    "Softshrink": (nn.Softshrink, _attributes("lambd")),
    "Threshold": (nn.Threshold, _attributes("threshold", "value")),
    "PReLU": (nn.PReLU, _prelu),
}
LEAVES: dict[str, Row] = {
    **ACTIVATIONS,
    "Conv2d": (nn.Conv2d, _conv2d),
    "ConvTranspose2d": (nn.ConvTranspose2d, _conv_transpose2d),
    "BatchNorm2d": (nn.BatchNorm2d, _batch_norm),
    "SyncBatchNorm": (nn.BatchNorm2d, _batch_norm),  # the same outside of training
    "LayerNorm": (nn.LayerNorm, _layer_norm),
    "GroupNorm": (nn.GroupNorm, _group_norm),
    "Linear": (nn.Linear, _linear),
    "MaxPool2d": (nn.MaxPool2d, POOL),
    "AvgPool2d": (nn.AvgPool2d, AVERAGE),
    "AdaptiveAvgPool2d": (nn.AdaptiveAvgPool2d, _attributes("output_size")),
    "Upsample": (
        nn.Upsample,
        _attributes("size", "scale_factor", "mode", "align_corners", "recompute_scale_factor"),
    ),
    "UpsamplingNearest2d": (nn.UpsamplingNearest2d, _attributes("size", "scale_factor")),
    "ZeroPad2d": (nn.ZeroPad2d, _attributes("padding")),
    "Dropout": (nn.Dropout, _attributes("p")),
    "Dropout2d": (nn.Dropout2d, _attributes("p")),
    "Flatten": (nn.Flatten, _attributes("start_dim", "end_dim")),
    "Softmax": (nn.Softmax, _attributes("dim")),
    "MultiheadAttention": (nn.MultiheadAttention, _attention),
}
CONTAINERS: dict[str, type[nn.Module]] = {
    "Sequential": nn.Sequential,
    "ModuleList": nn.ModuleList,
}
