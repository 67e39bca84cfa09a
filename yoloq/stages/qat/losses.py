"""The losses of `make qat`: a row each, which says when it counts and how it is set up."""

from collections.abc import Callable

from yoloq.stages.fine_tune.tuned import imitation
from yoloq.stages.qat.setup import QatSetup
from yoloq.train.label_loss import loss_for
from yoloq.train.qat.dampen import Dampening, growth
from yoloq.train.state import RunState
from yoloq.train.terms.objective import Term
from yoloq.train.terms.task import TaskLoss
from yoloq.train.terms.teacher_boxes import TeacherBoxes


def distillation(setup: QatSetup, state: RunState, steps: int) -> Term | None:
    """Distance to the teacher's blocks, raw head and boxes."""
    return imitation(setup) if setup.config.distils else None


def task(setup: QatSetup, state: RunState, steps: int) -> Term | None:
    """The published loss on labels: those of the data set, or the teacher's boxes."""
    inputs, config = setup.inputs, setup.config
    if not config.uses_task:
        return None
    head, weight = inputs.model.head, config.task_weight
    loss = loss_for(head, inputs.imgsz, setup.device)
    if config.needs_labels:
        return TaskLoss(loss, weight)
    return TaskLoss(loss, weight, TeacherBoxes(setup.asked, head, config.label_score))


def dampening(setup: QatSetup, state: RunState, steps: int) -> Term | None:
    """The pull of weights to the middle of their bins."""
    if not setup.config.dampen:
        return None

    def share() -> float:
        return growth(state.average.updates, steps)

    return Dampening(setup.student, setup.config.dampen, share)


# (setup, state, steps of the whole run) -> the term; None where it does not count
LOSSES: tuple[Callable[[QatSetup, RunState, int], Term | None], ...] = (
    distillation,
    task,
    dampening,
)


def make_terms(setup: QatSetup, state: RunState, steps: int) -> list[Term]:
    """The terms that count, by the flags."""
    made = (make(setup, state, steps) for make in LOSSES)
    return [term for term in made if term is not None]
