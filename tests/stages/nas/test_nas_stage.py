"""`make nas` from the command line: what it writes, how it goes on, mistakes of a user."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tiny_set import TinySet
from torch import nn

from yoloq.__main__ import main
from yoloq.models.load import load_model
from yoloq.quant.refine import gptq
from yoloq.stages.nas import workbench
from yoloq.stages.nas.workbench import Workbench
from yoloq.stages.train import stage as train

pytestmark = pytest.mark.usefixtures("one_thread")

QUICK = ("--engine", "onnxruntime", "--threads", "1", "--runs", "2", "--trials", "3")
QUICK += ("--epochs", "1", "--batch-size", "3", "--score-imgsz", "32")
SPACE = (
    "--widths",
    "0.125",
    "--depths",
    "0.33",
    "--activations",
    "silu",
    "relu",
    "--bits",
    "8",
    "4",
)


@pytest.fixture(autouse=True)
def without_repairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gptq, "repair", lambda block, steps: None)


def nas(tiny: TinySet, project: Path, *flags: str) -> int:
    return main("nas", tiny.flags(project, *QUICK, *SPACE, *flags))


def read(project: Path) -> dict[str, Any]:
    return json.loads((project / "run" / "nas.json").read_text())


def journal(project: Path) -> list[dict[str, Any]]:
    lines = (project / "run" / "nas.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines[1:]]


@pytest.fixture(scope="module")
def chosen(tiny: TinySet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    project = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(gptq, "repair", lambda block, steps: None)
        assert nas(tiny, project) == 0
    return project


def test_the_result(chosen: Path) -> None:
    notes = read(chosen)["notes"]
    points = notes["points"]
    assert len(points) == 3 and len({point["name"] for point in points}) == 3
    for point in points:
        assert point["ms"] > 0 and point["of_weights"] > 0 and 0 <= point["map50_95"] <= 1
        beaten = [
            other
            for other in points
            if other["ms"] < point["ms"] and other["map50_95"] >= point["map50_95"]
        ]
        assert not (point["front"] and beaten)
    small = {point["activation"]: point for point in points if point["bits"] == 4}
    whole = {point["activation"]: point for point in points if point["bits"] == 8}
    both = small.keys() & whole.keys()
    assert both  # of three candidates with two activations one has both
    for activation in both:  # one training and one engine serve both widths of weights
        ours, theirs = small[activation], whole[activation]
        assert ours["ms"] == theirs["ms"] and ours["synflow"] == theirs["synflow"]
        assert ours["size_bytes"] < 0.75 * theirs["size_bytes"]
    parts = [line["part"] for line in journal(chosen)]
    assert parts.count("candidate") == 3 and parts.count("training") == parts.count("time") == 2
    assert notes["chosen"] in {point["name"] for point in points if point["front"]}


def test_its_files(chosen: Path) -> None:
    run, notes = chosen / "run", read(chosen)["notes"]
    names = {file.name for file in run.iterdir()}
    assert {f"nas.{kind}" for kind in ("json", "jsonl", "md", "png")} <= names
    assert not [name for name in names if name.startswith(".")]
    text = (run / "nas.md").read_text()
    assert notes["verdict"] in text and "| relu" not in text and "-relu |" in text
    front = {p["name"].rpartition("-")[0] for p in notes["points"] if p["front"]}
    assert {name for name in names if name.endswith(".pt")} == {f"nas-{n}.pt" for n in front}
    best = load_model(run / notes["checkpoint"])
    assert best.imgsz == 64 and best.names == ("dark", "bright")
    act = next(p["activation"] for p in notes["points"] if p["name"] == notes["chosen"])
    kinds = {"silu": nn.SiLU, "relu": nn.ReLU}
    assert kinds[act] in {type(module) for module in best.net.modules()}
    assert not list((run / "nas").rglob("train-state*"))


def test_a_finished_search_is_reused_and_more_trials_use_it(
    chosen: Path, tiny: TinySet, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch
) -> None:
    shutil.copytree(chosen / "run", tmp_path / "run")
    before = journal(tmp_path)
    assert nas(tiny, tmp_path) == 0
    said = capsys.readouterr().err
    assert "up to date" in said and read(tmp_path)["notes"]["verdict"] in said
    trained = []
    monkeypatch.setattr(workbench, "train_on", lambda *_: trained.append(1))
    assert nas(tiny, tmp_path, "--trials", "4") == 0
    assert not trained  # of both networks the other bits
    after = journal(tmp_path)
    assert after[: len(before)] == before and len(after) == len(before) + 1
    assert len(read(tmp_path)["notes"]["points"]) == 4


def test_a_killed_search_goes_on_and_ends_alike(
    chosen: Path, tiny: TinySet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, made = Workbench._clock, []

    def stopped(self: Workbench, *rest: Any) -> None:
        made.append(1)
        if len(made) == 2:
            raise KeyboardInterrupt
        clock(self, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(Workbench, "_clock", stopped)
        assert nas(tiny, tmp_path) == 130
    assert not (tmp_path / "run" / "nas.json").exists()
    left = tmp_path / "run" / f".nas-{'0' * 32}"
    left.mkdir()
    runs, train_on = [], train.train_on

    def watch(*rest: Any) -> Any:
        runs.append(1)
        return train_on(*rest)

    monkeypatch.setattr(workbench, "train_on", watch)
    assert nas(tiny, tmp_path) == 0
    assert len(runs) <= 1  # the first network is not trained again
    ours, theirs = (
        {line["name"]: line["map50_95"] for line in journal(project) if "map50" in line}
        for project in (tmp_path, chosen)
    )
    assert all(ours[name] == theirs[name] for name in ours.keys() & theirs.keys())
    assert not left.exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        pytest.param(["--trials", "1"], "--trials 1: must be 2 or more", id="trials"),
        pytest.param(["--widths", "0"], "--widths 0.0: must be numbers above 0", id="width"),
        pytest.param(["--depths"], "--depths : must be numbers above 0", id="depths"),
        pytest.param(["--activations", "gelu"], "--activations gelu: must be some", id="act"),
        pytest.param(["--bits", "16"], "--bits 16: must be 2 to 8", id="bits"),
        pytest.param(["--score-imgsz", "50"], "--score-imgsz 50: must be a multiple", id="size"),
        pytest.param(["--engine", "torch"], "has no speed to choose by", id="simulated"),
        pytest.param(["--weights", "no.pt"], "no.pt", id="weights"),
    ],
)
def test_mistakes(flags: list[str], words: str, tiny: TinySet, tmp_path: Path, the_error) -> None:
    assert nas(tiny, tmp_path, *flags) == 2
    assert words in the_error()
    assert not (tmp_path / "run").exists()


def test_a_journal_of_other_epochs_is_refused(
    chosen: Path, tiny: TinySet, capsys: pytest.CaptureFixture[str]
) -> None:
    assert nas(tiny, chosen, "--epochs", "2") == 2
    assert "nas.jsonl: is a journal of other --epochs; --force" in capsys.readouterr().err
