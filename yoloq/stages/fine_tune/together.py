"""The frame of a fine-tuning stage under `torchrun`, where the first process writes."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from yoloq.base.result import StageResult, read_result
from yoloq.stages.fine_tune import TuneConfig
from yoloq.stages.fine_tune.tuned import Tuned
from yoloq.train.parallel import Processes, processes

C = TypeVar("C", bound=TuneConfig)
S = TypeVar("S", bound=Tuned)
T = TypeVar("T")


def run_together(
    config: C,
    result: Path,
    open_setup: Callable[[C, Processes], S | StageResult],
    train: Callable[[S], T],
    finish: Callable[[S, T], StageResult],
) -> StageResult:
    """Open, train, finish; in one process, or in all that `torchrun` started.

    Args:
        result: file of the stage's result, which the others read.
        open_setup: what training starts from, or the result that is there already.
        train: all processes run it, and get what it came to.
        finish: the first one writes what comes out.
    """
    with processes(config.device, config.batch_size) as group:
        with group.first_before_others():
            opened = open_setup(config, group)
        if isinstance(opened, StageResult):
            return opened
        state = train(opened)
        with group.first_before_others():
            if group.first:
                return finish(opened, state)
            found = read_result(result)
            assert found is not None
            return found
