"""Stages that are killed at random points: started again, do they give what a run left alone gives?

    python tests/support/reliability.py --kills 25 --out benchmarks/results/reliability.json

A stage runs in a process that is forked from this one, which has imported all that stages import:
so kills hit the work of a stage, and a second of work is not a second of imports. This process
itself computes nothing, or the threads of its torch would be missing in its children.
"""

import argparse
import contextlib
import importlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tiny_set import TinySet, make_tiny_set

from yoloq.__main__ import main
from yoloq.base.machine import cpu_model
from yoloq.stages.run import package_versions

SIGNALS = (signal.SIGKILL, signal.SIGINT)
TOLD = {signal.SIGKILL: -signal.SIGKILL, signal.SIGINT: 130}  # how a stage ends by them
TRIES = 4  # delays drawn for a kill before a stage is taken for too short
QUICK = ("--epochs", "2", "--epoch-images", "4", "--batch-size", "2")
STAGES: dict[str, tuple[str, ...]] = {  # what is run -> the stage and its options
    "baseline": ("baseline",),
    "ptq": ("ptq", "--images", "6"),
    "train": ("train", "--epochs", "3", "--batch-size", "2"),
    "sensitivity": ("sensitivity", "--runs", "0", "--top", "0", "--screen", "4"),
    "diagnose": ("diagnose",),
    "search": (
        *("search", "--engine", "torch", "--trials", "4", "--screen", "4"),
        *("--bits", "4,8,16", "--budget", "size=300kB"),
    ),
    "qat": ("qat", *QUICK),
    "swap": ("swap", "--engine", "torch", "--runs", "1", *QUICK),
    "codebook": ("codebook",),
    "engine-openvino": ("engine", "--engine", "openvino", "--runs", "1"),
    "engine-onnxruntime": ("engine", "--engine", "onnxruntime", "--runs", "1"),
}
LATE = ("torch._dynamo", "yaml", "PIL.Image", "rich.table")  # what stages import as they run
FIRST = ("baseline", "ptq")  # these are finished before the others begin
ALONE = (*FIRST, "train")  # these begin in an empty folder
TIMES = (  # parts of a result, and files, in which two runs that were left alone differ
    *("seconds", "ms", "float_ms", "latency_ms", "path_ms", "throughput", "fps"),
    *("floors", "slow", "time_ratio", "environment", "config", "qat.csv", "swap.csv"),
)


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
            code = work()
        os._exit(code)
    if by:
        time.sleep(delay)
        os.kill(pid, by)  # one that has ended waits for waitpid: the number is still its own
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return code, time.perf_counter() - began


class Trial:
    """The tiny set, and projects in which stages are run."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log = folder, folder / "log.txt"
        self.tiny = TinySet(folder / "set" / "tiny.pt", folder / "set" / "tiny.yaml")
        self.before = {True: folder / "first", False: folder / "none"}
        self.before[False].mkdir()
        (folder / "set").mkdir()
        self._must(lambda: bool(make_tiny_set(folder / "set")) - 1)

    def prepare(self) -> None:
        """Finish what the other stages begin with."""
        for name in FIRST:
            self.run(name, self.before[True])

    def run(self, name: str, project: Path) -> float:
        """Run a stage to its end; how long it took."""
        return self._must(self._work(name, project))

    def kill(self, name: str, project: Path, delay: float, by: signal.Signals) -> int:
        """Run a stage and kill it; its exit code."""
        return forked(self._work(name, project), self.log, delay, by)[0]

    def fresh(self, name: str) -> Path:
        """A new project in which the stage was not run."""
        project = Path(tempfile.mkdtemp(dir=self.folder))
        shutil.copytree(self.before[name not in ALONE], project, dirs_exist_ok=True)
        return project

    def _work(self, name: str, project: Path) -> Callable[[], int]:
        stage, *flags = STAGES[name]
        return lambda: main(stage, self.tiny.flags(project, *flags))

    def _must(self, work: Callable[[], int]) -> float:
        code, seconds = forked(work, self.log)
        if code:
            raise SystemExit(f"exit code {code}: {self.log.read_text()[-2000:]}")
        return seconds


def outcome(folder: Path, name: str) -> Any:
    """The result of a stage without times, and with the hashes of its files."""
    return _timeless(json.loads((folder / f"{name}.json").read_text()))


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _timeless(v) for k, v in value.items() if k not in TIMES}
    return [_timeless(item) for item in value] if isinstance(value, list) else value


def differences(one: Any, other: Any, where: str = "") -> list[str]:
    """Names of the parts in which two results differ."""
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        pairs = [(f"{where}.{key}", value, other[key]) for key, value in one.items()]
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        pairs = [(f"{where}.{i}", *pair) for i, pair in enumerate(zip(one, other, strict=True))]
    else:
        return [] if one == other else [where.lstrip(".")]
    return [name for where, a, b in pairs for name in differences(a, b, where)]


def torn(folder: Path) -> list[str]:
    """Files that are not whole; the last line of a journal may be cut."""
    return [file.name for file in folder.glob("[!.]*") if not _is_whole(file)]


def _is_whole(file: Path) -> bool:
    try:
        if file.suffix == ".json":
            json.loads(file.read_text())
        elif file.suffix in (".pt", ".npz"):
            with zipfile.ZipFile(file) as archive:
                return archive.testzip() is None
    except (ValueError, zipfile.BadZipFile):
        return False
    return True


def survive(trial: Trial, name: str, kills: int, draw: random.Random) -> dict[str, Any]:
    """Kill a stage again and again, each time in a new project, and let it end; what went wrong."""
    whole = trial.fresh(name)
    seconds, want = trial.run(name, whole), outcome(whole / "run", name)
    found: dict[str, Any] = {"seconds": round(seconds, 2), "killed": 0, "faults": []}
    for number in range(kills):
        by = SIGNALS[(number + list(STAGES).index(name)) % len(SIGNALS)]
        delay = seconds
        for _ in range(TRIES):
            project, delay = trial.fresh(name), draw.uniform(0, delay)
            if code := trial.kill(name, project, delay, by):
                found["killed"] += 1
                found["faults"] += faults(trial, name, project, want, code - TOLD[by])
                break
    shutil.rmtree(whole)
    return found


def faults(trial: Trial, name: str, project: Path, want: Any, code: int) -> list[str]:
    """What is wrong with a killed run, and after it was started again; the project is removed."""
    run = project / "run"
    found = [f"ended by {code} beside its code"] if code else []
    found += [f"{file} is torn" for file in torn(run)]
    trial.run(name, project)
    found += [f"{part} differs" for part in differences(want, outcome(run, name))]
    found += [f"{file.name} is left" for file in run.glob(".*")]
    shutil.rmtree(project)
    return found


def main_of(arguments: list[str]) -> int:
    """Write the counts as JSON; 1 where something went wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stages", nargs="*", default=list(STAGES), choices=STAGES)
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args(arguments)
    for module in (*LATE, *(f"yoloq.stages.{STAGES[name][0]}.stage" for name in given.stages)):
        importlib.import_module(module)
    found = {}
    with tempfile.TemporaryDirectory(prefix="yoloq-") as folder:
        trial = Trial(Path(folder))
        if not set(given.stages) <= set(ALONE):
            trial.prepare()
        for name in given.stages:
            draw = random.Random(f"{given.seed} {name}")
            found[name] = survive(trial, name, given.kills, draw)
            print(f"{name}: {found[name]}", file=sys.stderr, flush=True)
    facts = {"cpu": cpu_model(), "versions": package_versions(), "seed": given.seed}
    text = json.dumps({"machine": facts, "kills": found}, indent=1) + "\n"
    given.out.write_text(text) if given.out else print(text)
    return int(any(each["faults"] for each in found.values()))


if __name__ == "__main__":
    raise SystemExit(main_of(sys.argv[1:]))
