"""The parts of a check: a table of commands, each with what it needs beside a GPU."""

import importlib.util
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from yoloq.base.config import StageConfig
from yoloq.base.errors import UserError
from yoloq.base.own_files import INSTALLED, ROOT
from yoloq.base.say import say
from yoloq.engines import engine_row
from yoloq.stages.gpu_check import GpuCheckConfig

STAGE = ("-m", "yoloq")  # of Python: how a stage is run
LAUNCHER = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *STAGE)
BUILT_IN, OWN, RTX = "built-in", "own", "rtx"  # run folders
PYTEST = ("-m", "pytest", "-p", "no:cacheprovider")
CONTRACT = ("-k", "tensorrt", str(ROOT / "tests" / "engines" / "test_engines.py"))


@dataclass(frozen=True)
class Part:
    """One command of a check.

    Attributes:
        name: on the command line and in the file.
        shows: what it is for.
        command: config -> arguments of Python.
        needs: names of `NEEDS`.
    """

    name: str
    shows: str
    command: Callable[[GpuCheckConfig], Sequence[str]]
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """How a part went.

    Attributes:
        part: that it is of.
        why_not: why it was left out; empty where it ran.
        code: exit code.
        output: everything that it printed.
    """

    part: Part
    why_not: str = ""
    code: int = 0
    seconds: float = 0.0
    output: str = ""

    @property
    def word(self) -> str:
        """In one word."""
        return "left out" if self.why_not else "failed" if self.code else "passed"


def _stage(
    name: str, run: str, *more: str, python: Sequence[str] = STAGE
) -> Callable[..., list[str]]:
    """The command of a stage in one of the run folders; only `own` takes the user's files."""

    def command(config: GpuCheckConfig) -> list[str]:
        usual = StageConfig()
        given = config if run == OWN else usual
        device = "cuda" if config.device == "auto" else config.device
        flags = ["--weights", given.weights, "--data", given.data, "--device", device]
        flags += ["--project", str(config.folder), "--name", run, "--limit", str(config.limit)]
        values = {"{images}": str(config.images), "{epochs}": str(config.epochs)}
        return [*python, name, *flags, *(values.get(word, word) for word in more)]

    return command


PARTS = (
    Part(
        "tests",
        "the tests marked gpu",
        lambda config: (*PYTEST, "-m", "gpu", str(ROOT / "tests")),
        ("tests",),
    ),
    Part(
        "contract",
        "what every engine keeps, of those that need a GPU",
        lambda config: (*PYTEST, *CONTRACT),
        ("tests",),
    ),
    Part("baseline", "PyTorch in FP32", _stage("baseline", BUILT_IN)),
    Part("ptq", "calibration", _stage("ptq", BUILT_IN, "--images", "{images}")),
    Part("sensitivity", "the sweep", _stage("sensitivity", BUILT_IN, "--runs", "0")),
    Part("qat", "training", _stage("qat", BUILT_IN, "--epochs", "{epochs}")),
    Part(
        "qat-two",
        "training in two processes, a GPU each",
        _stage("qat", BUILT_IN, "--epochs", "{epochs}", "--force", python=LAUNCHER),
        ("two GPUs",),
    ),
    Part(
        "tensorrt",
        "FP32, FP16, INT8 of PTQ and QAT: gate, accuracy, time, dearest layers",
        _stage("table", BUILT_IN, "--engine", "tensorrt"),
        ("tensorrt",),
    ),
    Part(
        "tensorrt-own",
        "the same on the weights and the data that were given",
        _stage("table", OWN, "--engine", "tensorrt"),
        ("tensorrt", "own data"),
    ),
    Part(
        "tensorrt-rtx",
        "TensorRT for RTX on this GPU",
        _stage("engine", RTX, "--engine", "tensorrt-rtx"),
        ("tensorrt-rtx",),
    ),
)


def _installed(name: str) -> Callable[[GpuCheckConfig], str]:
    def missing(config: GpuCheckConfig) -> str:
        row = engine_row(name)
        return "" if row.is_installed else f"{name} is not installed; {row.install}"

    return missing


def _two_gpus(config: GpuCheckConfig) -> str:
    count = torch.cuda.device_count()
    return "" if count >= 2 else f"this machine has {count} GPU"


def _tests(config: GpuCheckConfig) -> str:
    in_clone = not INSTALLED and (ROOT / "tests").is_dir()
    there = in_clone and importlib.util.find_spec("pytest") is not None
    return "" if there else "the tests or pytest are not here; run it in a clone, behind make setup"


def _own(config: GpuCheckConfig) -> str:
    usual = StageConfig()
    own = (config.weights, config.data) != (usual.weights, usual.data)
    return "" if own else "no WEIGHTS or DATA was given"


NEEDS: dict[str, Callable[[GpuCheckConfig], str]] = {  # -> why it is not there; empty: it is
    "tests": _tests,
    "two GPUs": _two_gpus,
    "tensorrt": _installed("tensorrt"),
    "tensorrt-rtx": _installed("tensorrt-rtx"),
    "own data": _own,
}


def chosen(config: GpuCheckConfig) -> list[Part]:
    """The parts that were asked for, all where none were, in their order.

    Raises:
        UserError: there is no such part.
    """
    names = [part.name for part in PARTS]
    for name in config.parts:
        if name not in names:
            raise UserError(f"--parts {name}: not one of {', '.join(names)}")
    return [part for part in PARTS if not config.parts or part.name in config.parts]


def run_part(part: Part, config: GpuCheckConfig) -> Outcome:
    """Run one part in a process of its own: what ends that does not end the check."""
    reasons = [why for need in part.needs if (why := NEEDS[need](config))]
    if reasons:
        say(f"gpu-check {part.name}: left out: {reasons[0]}")
        return Outcome(part, reasons[0])
    say(f"gpu-check {part.name}: {part.shows}")
    began, command = time.perf_counter(), [sys.executable, *part.command(config)]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    seconds = time.perf_counter() - began
    outcome = Outcome(part, "", done.returncode, seconds, done.stdout)
    say(f"gpu-check {part.name}: {outcome.word}, {seconds:.0f} s")
    return outcome
