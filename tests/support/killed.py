"""Stages that are killed at random points: started again, do they give what a run left alone gives?

A stage runs in a process that is forked from this one, which has imported all that stages import:
so kills hit the work of a stage, and a second of work is not a second of imports. This process
itself computes nothing, or the threads of its torch would be missing in its children.
"""

import contextlib
import importlib
import os
import random
import shutil
import signal
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from kill_cases import CASES
from run_outcome import differences, outcome, place, torn
from tiny_set import TinySet, make_tiny_set

from yoloq.__main__ import main, options_of
from yoloq.base.config import StageConfig

TOLD = {signal.SIGKILL: -signal.SIGKILL, signal.SIGINT: 130}  # how a stage ends by them
TRIES = 4  # delays drawn for a kill before a stage is taken for too short
LATE = ("torch._dynamo", "yaml", "PIL.Image", "rich.table")  # what stages import as they run


def forked(work: Callable[[], int], log: Path, delay: float = 0, by: int = 0) -> tuple[int, float]:
    """Do something in a process of its own, which is sent a signal after `delay` seconds.

    Returns:
        Its exit code, below 0 where a signal ended it; and how long it took.
    """
    began, pid = time.perf_counter(), os.fork()
    if not pid:
        code = 1
        with contextlib.suppress(BaseException), open(log, "a") as stream:
            for descriptor in (1, 2):
                os.dup2(stream.fileno(), descriptor)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            code = _traced(work)
        os._exit(code)
    if by:
        time.sleep(delay)
        os.kill(pid, by)  # one that has ended waits for waitpid: the number is still its own
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return code, time.perf_counter() - began


def _traced(work: Callable[[], int]) -> int:
    try:
        return work()
    except BaseException:
        traceback.print_exc()
        raise


def import_stages(names: Iterable[str]) -> None:
    """Import what the stages of these cases do."""
    for module in (*LATE, *(f"yoloq.stages.{CASES[name].stage}.stage" for name in names)):
        importlib.import_module(module)


class Trial:
    """The tiny set, and projects in which stages are run."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log = folder, folder / "log.txt"
        self.tiny = TinySet(folder / "set" / "tiny.pt", folder / "set" / "tiny.yaml")
        self.prepared: dict[tuple[str, ...], Path] = {}
        (folder / "set").mkdir()
        self.must(lambda: bool(make_tiny_set(folder / "set")) - 1)

    def run(self, name: str, project: Path) -> float:
        """Run a stage to its end; how long it took."""
        return self.must(self._work(name, project))

    def kill(self, name: str, project: Path, delay: float, by: signal.Signals) -> int:
        """Run a stage and kill it; its exit code."""
        return forked(self._work(name, project), self.log, delay, by)[0]

    def fresh(self, name: str) -> Path:
        """A new project in which the stage was not run, and those before it were."""
        return self.project(CASES[name].after)

    def must(self, work: Callable[[], int]) -> float:
        """Do something in a process of its own, which ends well; how long it took."""
        code, seconds = forked(work, self.log)
        if code:
            raise SystemExit(f"exit code {code}: {self.log.read_text()[-2000:]}")
        return seconds

    def project(self, done: tuple[str, ...]) -> Path:
        """A new project in which these were run."""
        project = Path(tempfile.mkdtemp(dir=self.folder))
        if not done:
            return project
        if done not in self.prepared:
            self.prepared[done] = self.project(done[:-1])
            self.run(done[-1], self.prepared[done])
        shutil.copytree(self.prepared[done], project, dirs_exist_ok=True)
        return project

    def _work(self, name: str, project: Path) -> Callable[[], int]:
        case = CASES[name]
        own = [flag.format(pictures=self.tiny.pictures) for flag in case.flags]
        makes = issubclass(options_of(case.stage), StageConfig)
        flags = (self.tiny.flags if makes else self.tiny.run_flags)(project, *own)
        return lambda: main(case.stage, flags)


def survive(
    trial: Trial, name: str, found: dict[str, Any], kills: int, seed: int
) -> Iterator[dict[str, Any]]:
    """Kill a stage, each time in a new project, and let it end; yields what went wrong so far.

    Args:
        found: what was yielded last, to go on from; empty: nothing was.
        kills: all in all.
    """
    case, whole = CASES[name], trial.fresh(name)
    seconds, want = trial.run(name, whole), outcome(whole / "run", case.chosen)
    shutil.rmtree(whole)
    found = {"tried": 0, "killed": 0, "faults": [], **found, "seconds": round(seconds, 2)}
    for number in range(found["tried"], kills):
        draw = random.Random(f"{seed} {name} {number}")
        by = case.signals[(number + list(CASES).index(name)) % len(case.signals)]
        delay, found["tried"] = seconds, number + 1
        for _ in range(TRIES):
            project, delay = trial.fresh(name), draw.uniform(0, delay)
            if code := trial.kill(name, project, delay, by):
                found["killed"] += 1
                found["faults"] += faults(trial, name, project, want, code - TOLD[by])
                break
            shutil.rmtree(project)
        yield found


def faults(trial: Trial, name: str, project: Path, want: Any, code: int) -> list[str]:
    """What is wrong with a killed run, and after it was started again; the project is removed."""
    run = project / "run"
    found = [f"ended by {code} beside its code"] if code else []
    found += [f"{file} is torn" for file in torn(run)]
    trial.run(name, project)
    found += [f"{part} differs" for part in differences(want, outcome(run, CASES[name].chosen))]
    found += [f"{place(file, run)} is left" for file in run.rglob(".*")]
    shutil.rmtree(project)
    return found
