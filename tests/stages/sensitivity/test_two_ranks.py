"""A baseline, a calibration and a sweep by two processes: the bits of one; and one that is lost."""

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_set import TinySet, make_tiny_set
from two_processes import number_of, started

from yoloq.__main__ import main
from yoloq.base.own_files import ROOT

pytestmark = pytest.mark.usefixtures("one_thread")

# five batches, the last of them short, the third of which has pictures of both passes
FLAGS = ("--batch-size", "2", "--runs", "0", "--screen", "5", "--top", "3")


@pytest.fixture
def nine(tmp_path: Path) -> TinySet:
    """Nine pictures, of which the third and the fourth cannot be read."""
    made = make_tiny_set(tmp_path / "nine", images=9)
    for split in ("train", "val"):
        for number in (2, 3):
            (tmp_path / "nine" / "images" / split / f"{number}.png").write_bytes(b"no picture")
    return made


def lines(project: Path) -> list[dict[str, Any]]:
    file = project / "run" / "sensitivity.jsonl"
    return [json.loads(line) for line in file.read_text().split("\n")[:-1]] if file.exists() else []


def scored(project: Path) -> bool:
    """Whether the second pass has begun."""
    return any(line.get("part") == "score" for line in lines(project))


def test_two_processes_of_which_one_is_lost_give_the_bits_of_one(
    nine: TinySet, tmp_path: Path
) -> None:
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    process = started(str(ROOT / "scripts" / "sensitivity.py"), *nine.flags(shared, *FLAGS))
    ends = time.monotonic() + 120
    while not scored(shared) and process.poll() is None and time.monotonic() < ends:
        time.sleep(0.01)
    os.kill(number_of(process, rank=1), signal.SIGKILL)
    _, said = process.communicate()
    [error] = [line for line in said.splitlines() if line.startswith("error: ")]
    assert error.startswith("error: another process of the run was lost")
    assert "exitcode  : 2" in said, "that of the first process"
    assert said.count("calibrate: ") == 1, "one process speaks"
    done = lines(shared)
    assert len(done) < 22, "lost in the second pass"

    for project in (shared, alone):
        assert main("sensitivity", nine.flags(project, *FLAGS)) == 0
    assert lines(shared)[: len(done)] == done
    assert lines(shared) == lines(alone) and len(lines(alone)) == 22
    for name in ("baseline.npz", "statistics.npz", "ptq-record.npz"):
        ours, theirs = (np.load(project / "run" / name) for project in (shared, alone))
        assert all(np.array_equal(ours[key], theirs[key]) for key in theirs), name
    ours, theirs = (
        json.loads((project / "run" / "ptq.json").read_text())["rows"]
        for project in (shared, alone)
    )
    assert ours == theirs
