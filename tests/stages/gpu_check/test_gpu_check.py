"""`make gpu-check`: what it leaves out and why, what it runs, and the one file that it leaves."""

import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from yoloq.__main__ import STAGES, main, options_of
from yoloq.base.config import parse
from yoloq.stages.gpu_check import GpuCheckConfig, commands, sheet, stage
from yoloq.stages.gpu_check.commands import NEEDS, PARTS, Outcome, Part, chosen, run_part


def test_without_a_gpu_it_says_so_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, the_error: Callable[[], str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main("gpu_check", ["--project", str(tmp_path)]) == 2
    line = the_error()
    assert "there is no GPU to check (" in line and "machine with an NVIDIA GPU" in line
    assert not list(tmp_path.iterdir())


def test_an_unknown_part_lists_the_known_ones(tmp_path: Path, the_error: Callable[[], str]) -> None:
    assert main("gpu_check", ["--project", str(tmp_path), "--parts", "qta"]) == 2
    assert "--parts qta: not one of tests, contract, baseline, ptq, sensitivity, qat" in the_error()


def test_the_tests_are_there_to_be_run() -> None:
    for part in PARTS:
        words = part.command(GpuCheckConfig())
        if "tests" in part.needs:
            assert words[:2] == ("-m", "pytest") and Path(words[-1]).exists()


def test_parts_are_chosen_by_name_in_their_order() -> None:
    assert [part.name for part in chosen(GpuCheckConfig(parts=("qat", "ptq")))] == ["ptq", "qat"]
    assert chosen(GpuCheckConfig()) == list(PARTS)


@pytest.mark.parametrize(
    "part", [part for part in PARTS if "tests" not in part.needs], ids=lambda part: part.name
)
def test_every_command_is_one_that_its_stage_takes(part: Part, tmp_path: Path) -> None:
    config = GpuCheckConfig(weights="w.pt", data="d.yaml", project=str(tmp_path), limit=7)
    words = part.command(config)
    rest = words[words.index("yoloq") + 1 :]
    found = parse(options_of(rest[0]), rest[1:])
    assert rest[0] in STAGES and found.device == "cuda" and found.limit == 7
    assert found.folder.parent == config.folder
    assert (found.weights == "w.pt") == (part.name == "tensorrt-own")
    assert all(need in NEEDS for need in part.needs)


@pytest.mark.parametrize(
    ("need", "words"),
    [
        ("two GPUs", "this machine has 1 GPU"),
        ("tensorrt", "tensorrt is not installed; .venv/bin/pip install tensorrt"),
        ("tensorrt-rtx", "tensorrt-rtx is not installed; .venv/bin/pip install --no-deps tensorrt"),
        ("own data", "no WEIGHTS or DATA was given"),
        ("tests", "the tests or pytest are not here"),
    ],
)
def test_what_is_missing_leaves_a_part_out(
    need: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("it was run"))
    found = run_part(Part("x", "nothing", lambda config: [], (need,)), GpuCheckConfig())
    assert found.word == "left out" and found.why_not.startswith(words)


def test_a_part_runs_in_a_process_of_its_own() -> None:
    code = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"
    found = run_part(Part("x", "nothing", lambda config: ["-c", code]), GpuCheckConfig())
    assert (found.code, found.word) == (3, "failed")
    assert set(found.output.split()) == {"out", "err"}
    passed = run_part(Part("x", "nothing", lambda config: ["-c", ""]), GpuCheckConfig())
    assert (passed.code, passed.word, passed.output) == (0, "passed", "")


@pytest.fixture
def on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch sees a GPU, and the parts are two small commands and one that is left out."""
    gpu = SimpleNamespace(name="Some GPU", major=8, minor=9, total_memory=24 << 30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: gpu)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(stage, "has_gpu", lambda: True)
    monkeypatch.setattr(stage, "torch_device", lambda name: torch.device("cuda"))
    monkeypatch.setattr(
        sheet, "environment", lambda *_: {"system": "s", "cpu": "c", "versions": {}}
    )
    fails = "print('a line'); raise SystemExit(4)"
    rows = (
        Part("good", "that it works", lambda config: ["-c", "print('fine')"]),
        Part("bad", "that it fails", lambda config: ["-c", fails]),
        Part("absent", "nothing", lambda config: [], ("two GPUs",)),
    )
    monkeypatch.setattr(commands, "PARTS", rows)


@pytest.mark.usefixtures("on_a_gpu")
def test_one_file_has_everything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = tmp_path / "gpu-check" / "built-in"
    made.mkdir(parents=True)
    for name in ("baseline.json", "table.md", "ptq.pt", "tensorrt-int8.engine"):
        (made / name).write_text(name)
    assert main("gpu_check", ["--project", str(tmp_path)]) == 1
    with zipfile.ZipFile(tmp_path / "gpu-check" / "gpu-check.zip") as archive:
        assert sorted(archive.namelist()) == [
            *("bad.txt", "built-in/baseline.json", "built-in/table.md"),
            *("good.txt", "gpu-check.md"),
        ]
        text = archive.read("gpu-check.md").decode()
        assert archive.read("good.txt") == b"fine\n"
    assert "- GPUs: Some GPU, 8.9, 24 GiB" in text
    assert "| good | passed |" in text and "| bad | failed |" in text
    assert "| absent | left out | 0 | this machine has 1 GPU |" in text
    assert text.endswith("## bad ended with 4\n\n```\na line\n```\n")
    assert capsys.readouterr().out == text + "\n"


@pytest.mark.usefixtures("on_a_gpu")
def test_what_passed_ends_with_0(tmp_path: Path) -> None:
    assert main("gpu_check", ["--project", str(tmp_path), "--parts", "good", "absent"]) == 0


def test_the_driver_is_what_its_program_says(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(sheet.shutil, "which", lambda name: None)
    assert sheet.driver() == ""
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!{sys.executable}\nprint('580.65.06')\nprint('580.65.06')\n")
    program.chmod(0o755)
    monkeypatch.setattr(sheet.shutil, "which", lambda name: str(program))
    assert sheet.driver() == "580.65.06"


def test_a_failed_part_shows_its_last_lines_alone() -> None:
    part = Part("p", "shown", lambda config: [])
    text = sheet.sheet({}, [Outcome(part, code=1, output="\n".join(map(str, range(100))))])
    assert "\n```\n85\n86\n" in text and "\n84\n" not in text
