"""A disk that is full, a folder that is not writable or goes in mid-run: one line, nothing lost."""

import contextlib
import ctypes
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest
import torch
from openvino import opset13 as ops
from tiny_set import TinySet

from yoloq.__main__ import main
from yoloq.base.errors import RunError
from yoloq.base.files import replace_when_whole
from yoloq.base.own_files import ROOT
from yoloq.stages.ptq import stage as ptq

QUICK = {"ptq": ("--refine", "none"), "engine": ("--engine", "openvino", "--runs", "1")}
SIZES = {  # by stage: bytes that a file may have -> the first one that needs more
    "ptq": {0: ".lock", 10_000: "statistics.npz", 1_000_000: "ptq.pt"},
    "engine": {1_000_000: "model-fp32.onnx"},
}
PR_CAPBSET_DROP, CAP_DAC_OVERRIDE = 24, 1  # linux/prctl.h, linux/capability.h


@contextlib.contextmanager
def full_at(size: int) -> Iterator[None]:
    """No file can grow beyond so many bytes, as on a full disk or at the end of a quota."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.fixture(scope="module")
def before(tiny: TinySet, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """By stage a project in which all before it is finished."""
    project = tmp_path_factory.mktemp("before")
    assert main("baseline", tiny.flags(project / "ptq")) == 0
    shutil.copytree(project / "ptq", project / "engine")
    assert main("ptq", tiny.flags(project / "engine", *QUICK["ptq"])) == 0
    return {stage: project / stage for stage in QUICK}


@pytest.mark.parametrize(
    ("stage", "size"), [(stage, size) for stage in SIZES for size in SIZES[stage]]
)
def test_a_full_disk_is_one_line_and_loses_nothing(
    stage: str,
    size: int,
    before: dict[str, Path],
    tiny: TinySet,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(before[stage], tmp_path, dirs_exist_ok=True)
    run = tmp_path / "run"
    earlier = contents(run)
    capsys.readouterr()
    with full_at(size):
        assert main(stage, tiny.flags(tmp_path, *QUICK[stage])) == 2
    [error] = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert error == (
        f"error: {run / SIZES[stage][size]}: cannot be written (File too large); "
        "make room or choose another --project"
    )
    now = contents(run)
    assert {name: now[name] for name in earlier} == earlier
    assert not [name for name in now if name.startswith(".") or name == f"{stage}.json"]


def test_openvino_says_no_reason(tmp_path: Path) -> None:
    """It gives on what C++ says of a file that takes no more."""
    parameter, shape = ops.parameter((1, 10_000)), (1, 10_000)
    total = ops.add(parameter, ops.constant(np.random.default_rng(0).random(shape, np.float32)))
    model = openvino.Model([total], [parameter])
    said = r"a\.xml: cannot be written \(the disk or a quota may be full\); make room"
    with (
        full_at(10_000),
        pytest.raises(RunError, match=said),
        replace_when_whole(tmp_path / "a.xml") as file,
    ):
        openvino.save_model(model, file)


def test_torch_says_the_reason_of_its_stream(tmp_path: Path) -> None:
    with (
        full_at(10_000),
        pytest.raises(RunError, match=r"a\.pt: cannot be written \(File too large\)"),
        replace_when_whole(tmp_path / "a.pt") as file,
        open(file, "wb") as stream,
    ):
        torch.save(torch.zeros(10_000), stream)
    assert not list(tmp_path.iterdir())


def as_any_user() -> None:
    """Root may write everywhere; the program that is started now may not."""
    ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, 0, 0, 0)


@pytest.mark.parametrize("stage", ["ptq", "engine"])
def test_a_folder_that_is_not_writable(
    stage: str, before: dict[str, Path], tiny: TinySet, tmp_path: Path
) -> None:
    shutil.copytree(before[stage], tmp_path / "p")
    run = tmp_path / "p" / "run"
    earlier = contents(run)
    run.chmod(0o555)
    command = [sys.executable, "-m", "yoloq", stage, *tiny.flags(tmp_path / "p", *QUICK[stage])]
    done = subprocess.run(
        command, cwd=ROOT, preexec_fn=as_any_user, stderr=subprocess.PIPE, text=True
    )
    run.chmod(0o755)
    assert done.returncode == 2
    assert done.stderr == f"error: {run}: cannot be written; choose another --project\n"
    assert contents(run) == earlier


def test_a_folder_that_is_removed_in_mid_run(
    before: dict[str, Path],
    tiny: TinySet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(before["ptq"], tmp_path, dirs_exist_ok=True)
    run, real = tmp_path / "run", ptq.simulated_int8

    def removed(*given: Any, **more: Any) -> Any:
        shutil.rmtree(run)
        return real(*given, **more)

    monkeypatch.setattr(ptq, "simulated_int8", removed)
    capsys.readouterr()
    assert main("ptq", tiny.flags(tmp_path, *QUICK["ptq"])) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"error: {run / 'baseline.npz'}: No such file or directory; check")
    assert not run.exists()
