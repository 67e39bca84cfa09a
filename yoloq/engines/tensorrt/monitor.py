"""TensorRT's reports of a build's progress, as the project's progress bars; and cancelling it."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from types import ModuleType
from typing import Any, TypeVar

from yoloq.base.say import Phases

T = TypeVar("T")


def monitor(trt: ModuleType, phases: Phases, cancelled: threading.Event) -> Any:
    """An `IProgressMonitor` that draws the phases of a build, and ends it when it is cancelled.

    Its methods are called on TensorRT's threads; only `step_complete` can end the build.
    """

    class Monitor(trt.IProgressMonitor):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)  # not super(): the bindings ask for it

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            phases.start(phase_name, parent_phase, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            phases.step(phase_name, step + 1)
            return not cancelled.is_set()

        def phase_finish(self, phase_name: str) -> None:
            phases.finish(phase_name)

    return Monitor()


def cancellable(work: Callable[[], T], cancelled: threading.Event) -> T:
    """The result of `work`, done on a thread of its own so that Ctrl-C reaches this one.

    Python handles signals on the main thread between two of its own instructions, and a build is
    one call that takes minutes.

    Raises:
        KeyboardInterrupt: passed on when `work`, told so by `cancelled`, has ended.
    """
    outcome: Future[T] = Future()

    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:
            outcome.set_exception(error)

    thread = threading.Thread(target=run, name="tensorrt-build")
    try:
        thread.start()
        return outcome.result()
    except KeyboardInterrupt:
        cancelled.set()
        raise
    finally:
        if thread.is_alive():
            thread.join()
