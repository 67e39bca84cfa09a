"""The losses of `make qat`: a row each, which says when it counts and how it is set up."""

from collections.abc import Callable

from yoloq.stages.qat.setup import Tuning
from yoloq.train.losses import loss_for
from yoloq.train.qat.dampen import Dampening, growth
from yoloq.train.qat.distill import Distillation
from yoloq.train.qat.imitation import Imitation
from yoloq.train.qat.objective import Term
from yoloq.train.qat.task import TaskLoss
from yoloq.train.qat.teacher import common_blocks
from yoloq.train.state import RunState


def distillation(tuning: Tuning, state: RunState, steps: int) -> Term | None:
    """Distance to the teacher's blocks, raw head and boxes."""
    config = tuning.config
    if not config.distils:
        return None
    teacher = tuning.teacher.net.to(tuning.device).requires_grad_(False)
    weights = (config.feature_weight, config.head_weight, config.temperature)
    distance = Distillation(tuning.inputs.model.head, *weights, config.detection_weight)
    blocks = common_blocks(tuning.student, teacher) if config.feature_weight else []
    return Imitation(tuning.student, teacher, blocks, distance)


def task(tuning: Tuning, state: RunState, steps: int) -> Term | None:
    """The published loss on the labels."""
    inputs, config = tuning.inputs, tuning.config
    if not config.needs_labels:
        return None
    return TaskLoss(loss_for(inputs.model.head, inputs.imgsz, tuning.device), config.task_weight)


def dampening(tuning: Tuning, state: RunState, steps: int) -> Term | None:
    """The pull of weights to the middle of their bins."""
    if not tuning.config.dampen:
        return None

    def share() -> float:
        return growth(state.average.updates, steps)

    return Dampening(tuning.student, tuning.config.dampen, share)


# name -> (setup, state, steps of the whole run) -> the term; None where it does not count
LOSSES: dict[str, Callable[[Tuning, RunState, int], Term | None]] = {
    "distillation": distillation,
    "task": task,
    "dampening": dampening,
}


def make_terms(tuning: Tuning, state: RunState, steps: int) -> list[Term]:
    """The terms that count, by the flags."""
    made = (make(tuning, state, steps) for make in LOSSES.values())
    return [term for term in made if term is not None]
