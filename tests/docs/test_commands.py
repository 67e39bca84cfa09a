"""Every command of the pages runs, on a few pictures of the built-in set and in one run folder.

A command is taken as it stands on its page. The files that it names lie in the folder: the built-in
weights and set under every name. Only the amounts of work are cut down, by flags behind its own.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import webbrowser
from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest
from doc_pages import PAGES, shell_lines
from few_pictures import draw_few

from yoloq.__main__ import main, options_of
from yoloq.base.own_files import ROOT
from yoloq.quant.refine import gptq

pytestmark = pytest.mark.usefixtures("one_thread")

LEFT_OUT = {  # pattern -> why what it matches is not run here; the first that matches counts
    r"make (engine|table) (.* )?ENGINE=tensorrt( |$)": "needs an NVIDIA GPU",
    r"make gpu-check": "needs an NVIDIA GPU",
    r"trtexec |.*tensorrt-int8\.engine": "needs an NVIDIA GPU",
    r"make engine .*ENGINE=tensorrt-rtx": "needs TensorRT for RTX; its own tests build where it is",
    r"make (engine|diagnose) .*litert": "needs LiteRT; its own tests build where it is",
    r"make .*ncnn": "needs ncnn; its own tests build where it is",
    r"\.venv/bin/torchrun ": "tests/stages/sensitivity runs two processes",
    r"make ptq .*--activation-bits 16": "only LiteRT runs it",
    r"curl |unzip |mkdir ": "downloads gigabytes",
    r"(\.venv/bin/)?pip |make setup|python3 -m venv": "sets up an environment, with downloads",
    r"make (test(-lowest)?|check|docs|bench|reliability|clean|help)( |$)": "CI or a developer does",
    r"chromium ": "needs a browser; tests/report looks at the page in one",
    r".*docs/examples/app\.py": "tests/docs/test_examples.py runs it",
    r"make (ptq|qat) .*search-policy": "on so few pictures a search may put nothing in int8",
    r"make ptq .*runs/.*/policy\.json": "a diagnosis may find nothing that a policy mends",
    r"make train .*nas-": "on so few pictures which networks are on the front is left to chance",
}
ORDER = (  # a command that reads what another writes comes behind it; what is not here is last
    *(r"make demo", r"make data", r"make baseline"),
    r"make ptq (?!.*(policy\.json|swap\.pt))",
    r"make engine (?!.*(swap\.pt|both|codebook))",
    *(
        r"make sensitivity (?!.*force)",
        r"make sensitivity",
        r"make search",
        r"make diagnose",
        r"make qat (?!.*policy)",
        r"make engine .*both",
    ),
    *(r"make table", r"make report", r"make predict", r"make benchmark", r"make lint-onnx"),
    *(r"make swap", r"make (ptq|engine) .*swap\.pt", r"make auto", r"make (ptq|qat) .*policy"),
    *(r"make codebook", r"make engine .*codebook"),
)
AMOUNTS = {  # flag -> value, of the stages that have it
    **{"imgsz": "64", "limit": "2", "images": "4", "batch-size": "2", "workers": "0"},
    **{"runs": "1", "gate": "1", "threads": "1", "device": "cpu"},
    **{"epochs": "1", "train-images": "4", "val-images": "2", "plots": "1"},
    **{"trials": "2", "screen": "2", "top": "1"},
}
OTHERWISE = {  # stage -> flag -> value; empty: as it stands
    "report": {"runs": ""},  # which are folders
    "sensitivity": {"runs": "0"},  # no engine is built for its times
    "search": {"engine": "onnxruntime"},  # which builds fastest
    "swap": {"engine": "onnxruntime"},
    "nas": {"engine": "onnxruntime", "widths": "0.125", "depths": "0.33"},
    "benchmark": {"engine": "onnxruntime"},
    "auto": {"engine": "torch"},  # no search over real engines
}
FINDINGS = {"lint_onnx": 1}  # stage -> exit code that says that there is something to read
RUNS = ("yolov5s-coco", "yolov5n-coco", "best-custom", "w-d", "best-synthetic", "last-synthetic")
RUNS += ("yolov5n-synthetic", "demo", "a", "b", "c")  # all of them are one folder


def commands() -> list[str]:
    """The shell lines of all pages, each once."""
    lines = [line for page in PAGES for line in shell_lines(page)]
    plain = [shlex.join(shlex.split(line, comments=True)) for line in lines]
    return list(dict.fromkeys(line for line in plain if line))


def reason(command: str) -> str:
    """Why a command is not run here; empty: it is."""
    return next((why for pattern, why in LEFT_OUT.items() if re.match(pattern, command)), "")


def place_in_order(command: str) -> tuple[int, int]:
    """Behind what it reads; of several the plain one is last, and leaves the usual files."""
    found = [i for i, pattern in enumerate(ORDER) if re.match(pattern, command + " ")]
    return next(iter(found), len(ORDER)), -len(command)


COMMANDS = sorted((line for line in commands() if not reason(line)), key=place_in_order)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the pages have it in mind: weights, sets, photographs, and one run folder."""
    here = tmp_path_factory.mktemp("user")
    draw_few(here / "cache" / "synthetic", train=8, val=4)
    for name in ("coco.yaml", "custom.yaml", "d.yaml", "synthetic.yaml"):
        shutil.copy(ROOT / "data" / "synthetic.yaml", here / name)
    examples = here / "docs" / "examples"
    examples.mkdir(parents=True)
    shutil.copy(ROOT / "data" / "synthetic.yaml", examples / "coco.yaml")
    (examples / "cache").symlink_to(here / "cache")
    for name in ("yolov5s", "yolov5n", "best", "last", "w"):
        (here / f"{name}.pt").symlink_to(ROOT / "weights" / "yolov5n.pt")
    (here / "runs" / "shared").mkdir(parents=True)
    side = {"bits": 8, "granularity": "tensor", "symmetric": True}
    rules = [{"pattern": "*", "weight": side | {"bits": 6, "narrow": True}, "activation": side}]
    (here / "mixed.json").write_text(json.dumps({"rules": rules}))
    (here / "model.onnx").symlink_to(here / "runs" / "shared" / "model-int8.onnx")
    for name in RUNS:
        (here / "runs" / name).symlink_to("shared")
    put_photographs(here)
    return here


def put_photographs(here: Path) -> None:
    """A photograph, a folder of some and a clip."""
    photos = here / "cache" / "synthetic" / "images" / "val"
    (here / "photos").symlink_to(photos)
    first = sorted(photos.iterdir())[0]
    shutil.copy(first, here / "photo.jpg")
    clip = cv2.VideoWriter(str(here / "clip.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 5, (320, 320))
    for _ in range(3):
        clip.write(cv2.imread(str(first)))
    clip.release()


def stage_calls(command: str) -> Iterator[tuple[str, list[str]]]:
    """The stages that a `make` line starts, with their flags, as make gives them."""
    keep = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    dry = ["make", "--dry-run", "--no-print-directory", *shlex.split(command)[1:]]
    done = subprocess.run(dry, cwd=ROOT, env=keep, capture_output=True, text=True, check=True)
    for line in done.stdout.splitlines():
        if script := re.search(r"scripts/(\w+)\.py(.*)", line):
            yield script[1], shlex.split(script[2])


def cut_down(stage: str, flags: list[str]) -> list[str]:
    """The flags with less work, on the few pictures where they name no set."""
    known = {name.replace("_", "-") for name in options_of(stage).__dataclass_fields__}
    if "data" in known and "--data" not in flags:
        flags = ["--data", "synthetic.yaml", *flags]
    less = AMOUNTS | OTHERWISE.get(stage, {})
    pairs = [(f"--{name}", value) for name, value in less.items() if value and name in known]
    return [*flags, *(word for pair in pairs for word in pair)]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_runs(command: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(webbrowser, "open", lambda address: True)
    # stages without --threads take all cores, and two threads on a busy one wait for each other
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0}, raising=False)
    if command != "make demo":  # once is enough of what takes five seconds
        monkeypatch.setattr(gptq, "repair", lambda block, steps: None)
    calls = list(stage_calls(command.replace("<run>", "shared")))
    assert calls
    for stage, flags in calls:
        assert main(stage, cut_down(stage, flags)) in (0, FINDINGS.get(stage, 0))


@pytest.mark.parametrize("why", dict.fromkeys(LEFT_OUT.values()))
def test_what_is_left_out_is_said(why: str) -> None:
    left = [line for line in commands() if reason(line) == why]
    assert left, "no page has such a command any more"
    pytest.skip(f"not run, {why}: {'; '.join(left)}")
