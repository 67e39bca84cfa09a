"""The same seed gives the same result, bit for bit, on one CPU: two processes, stages that draw.

Python orders sets in another way in each process, and a folder has another name: neither counts.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import run_outcome
from run_outcome import differences, outcome
from tiny_set import make_tiny_set

from yoloq.base.files import sha256

ONE_STEP = ("--epochs", "1", "--epoch-images", "2", "--batch-size", "2")
STAGES = {
    "ptq": ("--images", "3", "--refine-images", "3"),
    "sensitivity": ("--runs", "0", "--top", "0", "--screen", "2"),
    "search": (
        *("--engine", "torch", "--trials", "2", "--screen", "2"),
        *("--bits", "4,8", "--budget", "size=300kB"),
    ),
    "qat": ONE_STEP,
    "swap": ("--engine", "torch", "--runs", "1", *ONE_STEP),
}
RUN = """
import json, sys
from pathlib import Path
from tiny_set import TinySet
from yoloq.__main__ import main

weights, data, project, stages = sys.argv[1:]
tiny = TinySet(Path(weights), Path(data))
for stage, flags in json.loads(stages).items():
    assert main(stage, tiny.flags(Path(project), "--quiet", *flags)) == 0, stage
"""
KEPT = (".pt", ".npz", ".jsonl", ".onnx")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The folders of two runs, of two processes at once."""
    tiny = make_tiny_set(tmp_path_factory.mktemp("set"), images=3)
    projects = [tmp_path_factory.mktemp(name) for name in ("one", "other")]
    started = [
        subprocess.Popen(
            [
                sys.executable,
                "-c",
                RUN,
                str(tiny.weights),
                str(tiny.data),
                str(project),
                json.dumps(STAGES),
            ],
            cwd=Path(run_outcome.__file__).parent,
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": str(number)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number, project in enumerate(projects, start=1)
    ]
    said = [each.communicate()[1] for each in started]
    assert [each.returncode for each in started] == [0, 0], said
    one, other = (project / "run" for project in projects)
    return one, other


def test_results_are_equal(runs: tuple[Path, Path]) -> None:
    one, other = map(outcome, runs)
    assert {f"{stage}.json" for stage in ("baseline", *STAGES)} <= one.keys()
    assert differences(one, other) == []


def test_files_are_equal_byte_for_byte(runs: tuple[Path, Path]) -> None:
    """Weights, ranges, statistics, boxes, journals."""
    one, other = (
        {file.relative_to(run): sha256(file) for file in run.rglob("*") if file.suffix in KEPT}
        for run in runs
    )
    assert one == other
    assert {"ptq.pt", "qat.pt", "swap.pt", "statistics.npz", "sensitivity.jsonl"} <= {
        file.name for file in one
    }
