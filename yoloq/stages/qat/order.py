"""`--schedule`: in which order the layers are quantized, a row each."""

from collections.abc import Callable, Sequence
from typing import Any

from yoloq.base.errors import RunError, UserError
from yoloq.base.own_files import MAKE
from yoloq.quant.policy import Placement, block_of, matches
from yoloq.stages.qat import QatConfig
from yoloq.stages.run import Inputs, existing
from yoloq.train.parallel import Processes

Groups = tuple[tuple[str, ...], ...]  # names of convolutions that join together, in turn
BY_SENSITIVITY = "by-sensitivity"


def front_to_back(placement: Placement, ranking: Sequence[str]) -> Groups:
    """The numbered layers as they run."""
    blocks = dict.fromkeys(block_of(name) for name in placement.layers)
    return groups_of(placement, list(blocks))


def by_sensitivity(placement: Placement, ranking: Sequence[str]) -> Groups:
    """What loses least first: the others then train beside what already is as it will be."""
    return groups_of(placement, ranking)


# name -> (placement, names of the sensitivity sweep, least sensitive first) -> groups
SCHEDULES: dict[str, Callable[[Placement, Sequence[str]], Groups]] = {
    "all": lambda placement, ranking: (),
    "front-to-back": front_to_back,
    BY_SENSITIVITY: by_sensitivity,
}


def groups_of(placement: Placement, names: Sequence[str]) -> Groups:
    """The quantized convolutions that each name matches; a name without any is left out."""
    plans = placement.layers.items()
    quantized = [name for name, plan in plans if plan.weight or plan.activation]
    groups = [tuple(n for n in quantized if matches(n, pattern)) for pattern in names]
    return tuple(group for group in groups if group)


def check_schedule(config: QatConfig, group: Processes) -> None:
    """Processes wait for the gradients of all that is trained, on in this step or not.

    Raises:
        UserError: some learned ranges would have none.
    """
    if config.schedule != "all" and config.ranges == "learned" and group.world > 1:
        raise UserError(
            f"--schedule {config.schedule}: ranges that are not on yet have no gradient, which "
            "several processes wait for; use --ranges frozen, or one process"
        )


def read_ranking(inputs: Inputs) -> tuple[str, ...]:
    """Names of the run's sensitivity sweep, least sensitive first.

    Raises:
        RunError: there is none of these weights and data.
    """
    found = existing(inputs, "sensitivity")
    if found is None:
        raise RunError(
            f"--schedule {BY_SENSITIVITY}: {inputs.config.folder} has no sensitivity.json of these "
            f"weights and data; make it with `{MAKE} sensitivity`"
        )
    return tuple(layer["name"] for layer in sorted(found.notes["layers"], key=_sensitivity))


def _sensitivity(layer: dict[str, Any]) -> tuple[bool, float]:
    """Of a line of the sweep; those that were not fully scored come before all that were."""
    if layer["fidelity_gain"]:
        return True, float(layer["fidelity_gain"][0])
    return False, float(layer["places_gain"] or 0)
