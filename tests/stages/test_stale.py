"""A finished stage is not reused once anything that it depends on is another, however little."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch
from tiny_set import TinySet

from yoloq.__main__ import main
from yoloq.base.errors import UserError
from yoloq.models.load import load_model, save_model
from yoloq.stages import run as opened
from yoloq.stages.engine import stage as engine

pytestmark = pytest.mark.usefixtures("one_thread")

REUSED = "is up to date"


@pytest.fixture(scope="module")
def finished(tiny: TinySet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tiny set, and a run of it through baseline, PTQ and an engine."""
    root = tmp_path_factory.mktemp("stale") / "set"
    shutil.copytree(tiny.data.parent, root)
    yaml = root / "tiny.yaml"
    yaml.write_text(yaml.read_text().replace(str(tiny.data.parent), "."))
    flags = TinySet(root / "tiny.pt", yaml).flags(root / "runs", *BUILD)
    assert main("engine", flags) == 0
    return root


BUILD = ("--engine", "onnxruntime", "--runs", "1", "--threads", "1")


@dataclass
class Copy:
    """A copy of that set and its run, which may be changed."""

    root: Path

    def run(self, stage: str, *flags: str) -> int:
        more = BUILD if stage == "engine" else ()
        place = TinySet(self.root / "tiny.pt", self.root / "tiny.yaml")
        return main(stage, place.flags(self.root / "runs", *more, *flags))


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Copy:
    shutil.copytree(finished, tmp_path / "set")
    return Copy(tmp_path / "set")


def one_weight(root: Path) -> None:
    """The next number above it, in one place."""
    model = load_model(root / "tiny.pt", fuse=False)
    weight = next(model.net.parameters()).detach().view(-1)
    weight[0] = torch.nextafter(weight[0], torch.tensor(9.0))
    save_model(root / "tiny.pt", model)


def one_pixel(split: str) -> Callable[[Path], None]:
    """By one step of one colour; the file has its old times and, as near as can be, its size."""

    def change(root: Path) -> None:
        file = root / "images" / split / "3.png"
        times = file.stat()
        pixels = cv2.imread(str(file))
        pixels[5, 5, 0] ^= 1
        cv2.imwrite(str(file), pixels)
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))

    return change


def one_label(root: Path) -> None:
    file = root / "labels" / "val" / "2.txt"
    file.write_text(file.read_text().replace("0.375 0.375", "0.376 0.375"))


def one_name(root: Path) -> None:
    file = root / "images" / "val" / "5.png"
    file.rename(file.with_name("6.png"))
    label = root / "labels" / "val" / "5.txt"
    label.rename(label.with_name("6.txt"))


@pytest.mark.parametrize("stage", ["baseline", "ptq", "engine"])
def test_as_it_was_it_is_reused(stage: str, copy: Copy, capsys: pytest.CaptureFixture[str]) -> None:
    assert copy.run(stage) == 0
    assert REUSED in capsys.readouterr().err


@pytest.mark.parametrize(
    ("stage", "change"),
    [
        pytest.param("baseline", one_weight, id="a weight"),
        pytest.param("baseline", one_pixel("val"), id="a pixel"),
        pytest.param("baseline", one_label, id="a label"),
        pytest.param("baseline", one_name, id="a name"),
        pytest.param("ptq", one_weight, id="a weight, calibrated"),
        pytest.param("ptq", one_pixel("train"), id="a pixel, calibrated"),
    ],
)
def test_files_that_changed(
    change: Callable[[Path], None], stage: str, copy: Copy, capsys: pytest.CaptureFixture[str]
) -> None:
    change(copy.root)
    assert copy.run(stage) == 0
    said = capsys.readouterr().err
    assert REUSED not in said
    assert "statistics: reused" not in said


def test_another_size(copy: Copy, capsys: pytest.CaptureFixture[str]) -> None:
    assert copy.run("baseline", "--imgsz", "96") == 0
    assert REUSED not in capsys.readouterr().err


@pytest.mark.parametrize("package", ["torch", "numpy", "opencv-python", "onnxruntime", "yoloq"])
def test_another_version(
    package: str, copy: Copy, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    versions = opened.package_versions()
    assert package in versions
    monkeypatch.setattr(opened, "package_versions", lambda: versions | {package: "0.0.1"})
    assert copy.run("baseline") == 0
    assert REUSED not in capsys.readouterr().err


@pytest.mark.parametrize("part", ["cpu_model", "isa_flags", "affinity"])
def test_another_cpu(
    part: str, copy: Copy, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What has times, or was gated, is of one machine; the rest is taken as it is."""

    def stop(*_: Any) -> None:
        raise UserError("builds again")

    monkeypatch.setattr(opened, part, lambda: ["other"] * 9)
    monkeypatch.setattr(engine, "open_sources", stop)
    assert copy.run("engine") == 2
    said = capsys.readouterr().err
    assert "error: builds again" in said and f"engine: {REUSED}" not in said


def test_an_artifact_that_was_exchanged(copy: Copy, capsys: pytest.CaptureFixture[str]) -> None:
    file = copy.root / "runs" / "run" / "ptq.pt"
    one = load_model(file)
    save_model(file, one, note="exchanged")
    assert copy.run("ptq") == 0
    said = capsys.readouterr().err
    assert "ptq.pt is missing or was changed: running ptq again" in said
