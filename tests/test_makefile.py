"""What make passes on to the scripts."""

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from yoloq.__main__ import STAGES

ROOT = Path(__file__).parent.parent


def words(target: str, **variables: str) -> list[str]:
    """The words that the script of a target would be started with."""
    keep = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    given = [f"{name}={value}" for name, value in variables.items()]
    command = ["make", "--dry-run", "--no-print-directory", target, *given]
    done = subprocess.run(command, cwd=ROOT, env=keep, capture_output=True, text=True, check=True)
    [line] = [line for line in done.stdout.splitlines() if "scripts/" in line]
    return shlex.split(line)[2:]


@pytest.mark.parametrize("value", ["plain.pt", "/Área de trabalho/my set.pt", "it's, a (b) & c;d"])
def test_a_variable_is_one_word(value: str) -> None:
    assert words("baseline", WEIGHTS=value, DATA=value, NAME=value) == [
        *("--weights", value, "--data", value, "--name", value),
    ]


@pytest.mark.parametrize(
    ("target", "variables", "want"),
    [
        ("ptq", {"ENGINE": "openvino"}, ["--engine", "openvino"]),
        (
            "swap",
            {"ENGINE": "openvino", "ARGS": "--layers 'model.[0-5]'"},
            ["--engine", "openvino", "--layers", "model.[0-5]"],
        ),
        ("report", {"ARGS": "--runs 'a b' c"}, ["--runs", "a b", "c"]),
        ("report", {"RUNS": "a runs/b", "NAME": "c"}, ["--name", "c", "--runs", "a", "runs/b"]),
        (
            "lint-onnx",
            {"ONNX": "my net.onnx", "TARGET": "tensorrt"},
            ["--onnx", "my net.onnx", "--target", "tensorrt"],
        ),
        ("engine", {"IMGSZ": "640 480", "DEVICE": "0"}, ["--imgsz", "640 480", "--device", "0"]),
        ("demo", {}, []),
        (
            "predict",
            {"NAME": "run", "SOURCE": "my photo.jpg", "ENGINE": "torch", "PRECISION": "fp32"},
            [
                *("--name", "run", "--engine", "torch", "--precision", "fp32"),
                *("--source", "my photo.jpg"),
            ],
        ),
        (
            "benchmark",
            {"NAME": "run", "ARGS": "--batches 1 2"},
            ["--name", "run", "--batches", "1", "2"],
        ),
    ],
)
def test_variables_of_a_target(target: str, variables: dict[str, str], want: list[str]) -> None:
    assert words(target, **variables) == want


def printed(*targets: str) -> str:
    keep = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    command = ["make", "--no-print-directory", *targets]
    done = subprocess.run(command, cwd=ROOT, env=keep, capture_output=True, text=True, check=True)
    return done.stdout


def test_without_a_target_it_shows_what_most_people_want() -> None:
    lines = printed().splitlines()
    shown = [line.split()[1] for line in lines if line.startswith("make ")]
    assert shown == ["demo", "auto", "engine", "report", "predict", "diagnose", "help"]
    assert max(map(len, lines)) <= 80


def test_help_shows_every_stage_that_has_a_target() -> None:
    text = printed("help")
    for name in STAGES:
        assert f"make {name.replace('_', '-')} " in text
    assert max(map(len, text.splitlines())) <= 100
