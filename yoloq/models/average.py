"""Averaged weights beside a pickled model, in whichever form a trainer left them."""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from yoloq.base.errors import CheckpointError
from yoloq.base.say import say
from yoloq.models.pickled import COUNTERS, class_of, tensors
from yoloq.models.reparametrized import check_weights
from yoloq.models.unpickle import Stub
from yoloq.models.unpickle.arrays import Array

EMA = "ema"  # the entry of YOLOv5 and of the package; others name theirs with one of `WORDS`
WORDS = {EMA, "swa", "avg", "average", "averaged"}
INSIDE = (EMA, "model", "state_dict", "module")  # entries that are looked into first
WRAPPERS = {  # class of what holds a model -> as what
    "DataParallel": "module",
    "DistributedDataParallel": "module",
    "AveragedModel": "module",
    "AutoShape": "model",
    "DetectMultiBackend": "model",
}
ROOT = "model."  # before all names in a model; a state dict of its layers alone lacks it
COUNTED = "num_batches_tracked"  # which training alone reads, and some leave out


def averaged_entry(entries: Mapping[Any, Any]) -> tuple[str, Any]:
    """Key and content of a checkpoint's averaged weights; None where it has none.

    Of other keys than `ema` one that holds no tensors, such as a count of updates, is passed over.
    """
    content = held(entries.get(EMA))
    if not is_nothing(content):
        return EMA, content
    for key in filter(_is_named, entries):
        content = held(entries[key])
        if _has_weights(content):
            say(f"the averaged weights of its `{key}` are taken, not those of its `model`")
            return str(key), content
    return EMA, None


def _has_weights(content: Any) -> bool:
    """Whether it is a module or a state dict; options and losses are a Stub and a dict as well."""
    if isinstance(content, Stub):
        return "_modules" in content.state
    return isinstance(content, Mapping) and any(n.endswith("weight") for n in _numbers(content))


def _is_named(key: Any) -> bool:
    """Whether a key has a word for an average; upper case begins a word, or is one."""
    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", str(key))
    return not WORDS.isdisjoint(word.lower() for word in words)


def held(entry: Any) -> Any:
    """What an entry holds: it may be in a pair, in an object or in a dict of its own."""
    if isinstance(entry, tuple | list):
        found = next((each for each in entry if isinstance(each, Stub | Mapping | tuple)), None)
        return entry if found is None else held(found)
    if isinstance(entry, Stub) and class_of(entry) == "ModelEMA":
        return held(entry.state.get(EMA) or entry.state.get("_modules", {}).get(EMA))
    if not isinstance(entry, Mapping) or _numbers(entry):
        return entry
    inner = {key: each for key, each in entry.items() if isinstance(each, Mapping | Stub | tuple)}
    usual = [inner[key] for key in INSIDE if key in inner]
    return held([*usual, *inner.values()][0]) if inner else entry


def is_nothing(entry: Any) -> bool:
    """Whether an entry stands for no weights: what is false, or a None with at most a count."""
    if isinstance(entry, Mapping | tuple | list):
        values = list(entry.values() if isinstance(entry, Mapping) else entry)
        return all(value is None or isinstance(value, int | float) for value in values) and (
            not values or None in values
        )
    return entry is None or (isinstance(entry, bool | int | float | str) and not entry)


def unwrapped(model: Stub) -> Stub:
    """The model inside a wrapper for parallel runs, averaging or use."""
    while class_of(model) in WRAPPERS:
        model = model.state["_modules"][WRAPPERS[class_of(model)]]
    return model


def averaged_tensors(key: str, averaged: Any, model: Stub) -> dict[str, Tensor]:
    """Averaged tensors by the names that they have in a model.

    Args:
        key: of the entry, for messages.
        averaged: what it holds: a model or a state dict, whatever stands before its names.
        model: whose weights were averaged.

    Raises:
        CheckpointError: it is in no form that is known, lacks a tensor, or has rewritten ones. The
            text names no file.
    """
    remedy = "remove the entry to use the weights of `model`"
    if isinstance(averaged, Stub):
        return tensors(unwrapped(averaged))
    if not isinstance(averaged, Mapping):
        raise CheckpointError(
            f"its averaged weights (`{key}`) are a {type(averaged).__name__}, which yoloq cannot "
            f"read; {remedy}"
        )
    found, names = _numbers(averaged), [n for n in tensors(model) if not n.endswith(COUNTED)]
    check_weights(found)
    for cut in ("", ROOT):
        fitting = _fitting(found, [name.removeprefix(cut) for name in names])
        if len(fitting) > 1:
            raise CheckpointError(f"its averaged weights (`{key}`) are of several models; {remedy}")
        for before in fitting:
            named = {f"{cut}{n[len(before) :]}": found[n] for n in found if n.startswith(before)}
            return {name: tensor for name, tensor in named.items() if name.startswith(ROOT)}
    lacking = next((name for name in names if name not in found), "all names")
    raise CheckpointError(
        f"its averaged weights (`{key}`) lack {lacking!r}, which its `model` has; {remedy}"
    )


def _numbers(entries: Mapping[Any, Any]) -> dict[str, Tensor]:
    """The tensors of a state dict, those of NumPy too, without counters."""
    plain = {
        str(key): value.tensor if isinstance(value, Array) else value
        for key, value in entries.items()
    }
    return {
        name: value
        for name, value in plain.items()
        if isinstance(value, Tensor) and not name.endswith(COUNTERS)
    }


def _fitting(found: Mapping[str, Tensor], names: list[str]) -> list[str]:
    """What stands before all names of a model in a state dict; several where it holds several.

    Of several models one that is named as an average is meant.
    """
    ends = {key.removesuffix(names[0]) for key in found if key.endswith(names[0])}
    whole = [before for before in ends if all(f"{before}{name}" in found for name in names)]
    return [before for before in whole if _is_named(before)] or whole
