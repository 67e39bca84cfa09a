"""Wall-clock of `make demo` after installation, with the built-in set drawn anew."""

import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from record import Column, Figure, Found, Table
from subject import WORK, Subject, main

from yoloq.base.machine import affinity
from yoloq.base.own_files import ROOT
from yoloq.data.synthetic import ensure

MINUTES = 6
NAME = "demo"


def measure(subject: Subject) -> Found:
    """Time of drawing the built-in set and of the demo itself: what a first `make demo` takes."""
    steps = {"drawing the built-in set": draw_set, "make demo": run_demo}
    seconds = {name: timed(step) for name, step in steps.items()}
    total = sum(seconds.values()) / 60
    table = Table("Demo", (Column("Step"), Column("Seconds", "{:.0f}")), tuple(seconds.items()))
    how = f"On {len(affinity())} cores, after installation, in an empty run folder."
    return Found((Figure("make demo, minutes", total, "{:.1f}", high=MINUTES),), (table,), (how,))


def timed(step: Callable[[], Any]) -> float:
    """Seconds that a step takes."""
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


def draw_set() -> None:
    """Draw the built-in set into a folder of its own, as the first use does."""
    with tempfile.TemporaryDirectory() as folder:
        ensure(Path(folder) / "synthetic")


def run_demo() -> None:
    """Run it from nothing.

    Raises:
        CalledProcessError: it failed.
    """
    shutil.rmtree(WORK / NAME, ignore_errors=True)
    arguments = f"ARGS=--project {WORK} --name {NAME}"
    subprocess.run(["make", "demo", arguments], cwd=ROOT, check=True)


if __name__ == "__main__":
    raise SystemExit(main("demo_time", measure, built_in=True))
