"""What an int8 engine runs each convolution in, and how long that takes, for the report."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from yoloq.engines.base import Engine
from yoloq.engines.predictor import Predictor
from yoloq.measure.layer_times import LayerTimes, float_precisions
from yoloq.quant.placed import placed
from yoloq.stages.engine.build import EngineVariant
from yoloq.stages.engine.layers import Profiles, expected_int8

INT8 = "int8"


def layer_notes(
    engine: Engine,
    variants: Sequence[EngineVariant],
    predictors: Mapping[str, Predictor],
    profiles: Profiles,
) -> dict[str, dict[str, Any]]:
    """The convolutions of each int8 engine, in forward order.

    Each has its `layer`, the `type` that it runs in, `scale` and `zero_point` of its input, `ms`
    and `float_ms`: what it takes here and in `float`, the engine's last other precision; None where
    an engine has no profile, or nothing to compare with.
    """
    floats = float_precisions([variant.key for variant in variants])
    int8 = [variant for variant in variants if variant.key not in floats]
    if not int8 or engine.simulated:
        return {}
    other = floats[-1] if floats else None
    compared = profiles.of(int8[0], other) if other else None
    return {
        variant.key: {
            "float": other,
            "layers": _layers(
                variant,
                set(expected_int8(engine, variant)),
                predictors[variant.key].float_type,
                profiles.of(variant),
                compared,
            ),
        }
        for variant in int8
    }


def _layers(
    variant: EngineVariant,
    planned: set[str],
    float_type: str,
    own: LayerTimes | None,
    other: LayerTimes | None,
) -> list[dict[str, Any]]:
    """As of `layer_notes`; a type that the profile does not tell is the planned one."""
    notes = []
    for item in placed(variant.source.quantized):
        name = item.layer
        plan = INT8 if name in planned else float_type
        notes.append(
            {k: v for k, v in asdict(item).items() if k != "int8"}
            | {
                "type": own.precisions.get(name, plan) if own else plan,
                "ms": own and own.layers[name],
                "float_ms": other and other.layers[name],
            }
        )
    return notes
