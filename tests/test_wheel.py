"""The wheel: what it carries, and that it works far from any clone."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from few_pictures import draw_few

from yoloq.base.own_files import ROOT
from yoloq.base.result import read_result

PIP = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from this clone, without an index."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [*PIP, "wheel", "--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([*build, "--wheel-dir", str(folder), str(ROOT)], check=True)
    [file] = folder.iterdir()
    return file


@pytest.fixture
def site(wheel: Path, tmp_path: Path) -> Path:
    """The wheel as pip installs it."""
    folder = tmp_path / "site"
    install = [*PIP, "install", "--no-deps", "--no-index", "--no-compile", "--target"]
    subprocess.run([*install, str(folder), str(wheel)], check=True)
    return folder


def yoloq(site: Path, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the installed command in a folder."""
    own = {"PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(site / "bin" / "yoloq"), *words]
    return subprocess.run(command, cwd=folder, env=os.environ | own, capture_output=True, text=True)


def test_it_carries_the_package_the_weights_and_the_data_definition(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        for name in ("weights/yolov5n.pt", "weights/yolov5nu.pt", "data/synthetic.yaml"):
            assert archive.read(f"yoloq/carried/{name}") == (ROOT / name).read_bytes()
    assert {name.partition("/")[0] for name in names} == {"yoloq"}
    source = [file for file in (ROOT / "yoloq").rglob("*") if "__pycache__" not in file.parts]
    assert {str(file.relative_to(ROOT)) for file in source if file.is_file()} <= names


def test_it_works_in_any_folder(site: Path, tmp_path: Path) -> None:
    """The built-in model on the built-in set: all that is made lies in the folder."""
    before = sorted(site.rglob("*"))
    folder = tmp_path / "elsewhere"
    draw_few(folder / "data" / "cache" / "synthetic", train=1, val=2)
    done = yoloq(site, folder, "baseline", "IMGSZ=64", "ARGS=--limit 2 --workers 0", "--seed", "3")
    assert done.returncode == 0, done.stderr
    assert "next: yoloq ptq IMGSZ=64 ARGS=" in done.stderr and "make" not in done.stderr
    found = read_result(folder / "runs" / "yolov5n-synthetic" / "baseline.json")
    assert found is not None and found.data["images"] == 2
    assert found.config["seed"] == 3
    assert found.environment["versions"]["yoloq"] == "0.2.0"
    assert Path(found.weights["path"]).is_relative_to(site)
    assert sorted(site.rglob("*")) == before


def test_a_stage_without_weights_or_data_says_what_to_give(site: Path, tmp_path: Path) -> None:
    shutil.rmtree(site / "yoloq" / "carried" / "weights")
    done = yoloq(site, tmp_path, "baseline")
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.endswith("yolov5n.pt: no such file; give a checkpoint with --weights")
    weights = str(ROOT / "weights" / "yolov5n.pt")
    done = yoloq(site, tmp_path, "baseline", f"WEIGHTS={weights}", "DATA=coco.yaml")
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.endswith("coco.yaml: no such file; give the yaml of a data set with --data")
    assert not (tmp_path / "runs").exists()


def test_it_has_one_version() -> None:
    log = (ROOT / "docs" / "CHANGELOG.md").read_text()
    project = (ROOT / "pyproject.toml").read_text()
    assert 'version = "0.2.0"' in project and "## 0.2.0" in log
