"""The command that repeats a stage, as make and the shell read it."""

import shlex
import subprocess
from pathlib import Path

import pytest

from yoloq.report.repeat import make_command

DEFAULTS = {"weights": "a.pt", "name": "", "images": 128, "amax": (), "flag": True, "force": False}


@pytest.mark.parametrize(
    ("config", "line"),
    [
        ({}, "make ptq"),
        ({"weights": "b.pt", "name": "run"}, "make ptq WEIGHTS=b.pt NAME=run"),
        ({"images": 64}, "make ptq ARGS='--images 64'"),
        ({"amax": []}, "make ptq"),
        ({"amax": ["model.8=4.2", "x=1"]}, "make ptq ARGS='--amax model.8=4.2 x=1'"),
        ({"flag": False}, "make ptq ARGS=--no-flag"),
        ({"force": True}, "make ptq"),
        ({"unknown": 1}, "make ptq"),
    ],
)
def test_only_what_is_not_the_default_is_said(config: dict[str, object], line: str) -> None:
    assert make_command("ptq", DEFAULTS | config, DEFAULTS) == line


def test_an_engine_is_a_variable_where_make_has_one() -> None:
    usual = {"engine": "auto"}
    assert make_command("engine", {"engine": "torch"}, usual) == "make engine ENGINE=torch"
    assert make_command("qat", {"engine": "torch"}, usual) == "make qat ARGS='--engine torch'"


@pytest.mark.parametrize("name", ["a b.pt", "it's.pt", "cost$5.pt"])
def test_any_file_name_survives_make_and_shell(name: str, tmp_path: Path) -> None:
    (tmp_path / "Makefile").write_text(
        "flag = '$(subst ','\\'',$(WEIGHTS))'\nptq:\n\t@printf '%s' $(flag)\n"
    )
    line = make_command("ptq", {"weights": name}, DEFAULTS)
    found = subprocess.run(line, shell=True, cwd=tmp_path, capture_output=True, text=True)
    assert found.stdout == name


@pytest.mark.parametrize("name", ["a b.pt", "it's.pt", "cost$5.pt"])
def test_outside_a_clone_it_is_yoloqs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yoloq.report.repeat.MAKE", "yoloq")
    line = make_command("ptq", {"weights": name, "images": 64}, DEFAULTS)
    assert shlex.split(line) == ["yoloq", "ptq", f"WEIGHTS={name}", "ARGS=--images 64"]
