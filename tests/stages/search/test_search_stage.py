"""`make search` from the command line: results, going on after a kill, mistakes of a user."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tiny_set import TinySet

from yoloq.__main__ import main
from yoloq.quant.policy import Policy
from yoloq.quant.quantized import load_quantized
from yoloq.stages.search import trials

pytestmark = pytest.mark.usefixtures("one_thread")

QUICK = ("--engine", "openvino", "--threads", "1", "--trials", "4", "--runs", "2", "--screen", "4")


def search(tiny: TinySet, project: Path, *flags: str) -> int:
    return main("search", tiny.flags(project, *QUICK, *flags))


def read(project: Path) -> dict[str, Any]:
    return json.loads((project / "run" / "search.json").read_text())


def journal(project: Path) -> list[dict[str, Any]]:
    lines = (project / "run" / "search.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def searched(tiny: TinySet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a search in which any loss is within the target and each trial slower.

    A network this small is as fast in float: with real times the answer would be left to chance.
    """
    project = tmp_path_factory.mktemp("runs")

    def times(self: trials.Trials, *_: Any) -> tuple[float, float]:
        return (1.0 + len(self.points) / 10, 5.0) if self.points else (5.0, 5.0)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(trials.Trials, "_times", times)
        assert search(tiny, project, "--max-drop", "1", "--measure", "fidelity") == 0
    return project


def test_the_result(searched: Path) -> None:
    points = read(searched)["notes"]["points"]
    int8 = [point for point in points if point["int8"]]
    floats = [point for point in points if not point["int8"]]
    assert len(int8) == 4 and floats[0]["name"] == "fp32" and floats[0]["loss"] == 0
    assert len({point["name"] for point in points}) == len(points)
    for point in points:
        assert point["ms"] > 0 and 0 <= point["fidelity"] <= 1
        assert point["loss"] == pytest.approx(1 - point["fidelity"])
        beaten = [p for p in points if p["ms"] < point["ms"] and p["loss"] <= point["loss"]]
        assert not (point["front"] and beaten)
        low, high = point["loss_ci95"]
        assert -1 <= low <= high <= 1
    assert floats[0]["loss_ci95"] == [0, 0]
    for point in int8:
        assert point["predicted_ms"] > 0
    chosen = read(searched)["notes"]["chosen"]
    assert min(points, key=lambda point: point["ms"])["name"] == chosen


def test_its_files(searched: Path) -> None:
    run = searched / "run"
    names = {file.name for file in run.iterdir()}
    assert {f"search.{kind}" for kind in ("json", "jsonl", "md", "png")} <= names
    assert not [name for name in names if name.startswith(".")]
    text = (run / "search.md").read_text()
    assert text.startswith("the fastest that loses at most 1 of fidelity: ")
    assert "| answer |" in text and "| fp32 |" in text


def test_ptq_takes_the_policy(searched: Path, tiny: TinySet, tmp_path: Path) -> None:
    assert read(searched)["notes"]["chosen"].endswith("symmetric, float 24")  # the default
    file = searched / "run" / "search-policy.json"
    policy = Policy.from_json(json.loads(file.read_text()))
    assert main("ptq", tiny.flags(tmp_path, "--policy", str(file))) == 0
    assert load_quantized(tmp_path / "run" / "ptq.pt").policy == policy


def test_a_finished_search_is_reused(
    searched: Path, tiny: TinySet, capsys: pytest.CaptureFixture[str]
) -> None:
    before = journal(searched)
    assert search(tiny, searched, "--max-drop", "1", "--measure", "fidelity") == 0
    said = capsys.readouterr().err
    assert "up to date" in said and read(searched)["notes"]["verdict"] in said
    assert journal(searched) == before


def test_another_question_uses_what_was_measured(
    searched: Path, tiny: TinySet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(searched / "run", tmp_path / "run")
    assert search(tiny, tmp_path, "--max-latency", "0.0001") == 0
    verdict = read(tmp_path)["notes"]["verdict"]
    assert verdict.startswith("the best within 0.0001 ms: nothing here; the fastest takes ")
    assert verdict in capsys.readouterr().err
    assert not (tmp_path / "run" / "search-policy.json").exists()
    before, after = journal(searched), journal(tmp_path)
    assert after[: len(before)] == before


def test_a_killed_search_goes_on_behind_its_last_engine(
    searched: Path, tiny: TinySet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(searched / "run", tmp_path / "run")
    run = tmp_path / "run"
    (run / "search.json").unlink()
    lines = (run / "search.jsonl").read_text().splitlines(keepends=True)
    (run / "search.jsonl").write_text("".join(lines[:-2]))
    left = run / f".search-{'0' * 32}"
    left.mkdir()
    built = []
    real = trials.Trials._test

    def watch(self: trials.Trials, name: str, *rest: Any) -> Any:
        built.append(name)
        return real(self, name, *rest)

    monkeypatch.setattr(trials.Trials, "_test", watch)
    assert search(tiny, tmp_path, "--max-drop", "1", "--measure", "fidelity") == 0
    assert len(built) == 2
    assert journal(tmp_path)[: len(lines) - 2] == [json.loads(line) for line in lines[:-2]]
    assert not left.exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        pytest.param(["--trials", "1"], "--trials 1: must be 2 or more", id="trials"),
        pytest.param(["--max-drop", "0"], "--max-drop 0.0", id="drop"),
        pytest.param(["--max-latency", "-1"], "--max-latency -1.0", id="latency"),
        pytest.param(
            ["--max-drop", "0.1", "--max-latency", "9"], "left out where --max-drop", id="both"
        ),
        pytest.param(["--calibrators", "mad"], "--calibrators mad: must be some of", id="name"),
        pytest.param(["--calibrators"], "--calibrators : must be some of", id="none"),
        pytest.param(["--engine", "torch"], "has no speed to search for", id="simulated"),
    ],
)
def test_mistakes(flags: list[str], words: str, tiny: TinySet, tmp_path: Path, the_error) -> None:
    assert search(tiny, tmp_path, *flags) == 2
    assert words in the_error()
    assert not (tmp_path / "run").exists()


def test_a_journal_of_other_images_is_refused(
    searched: Path, tiny: TinySet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(searched / "run", tmp_path / "run")
    assert search(tiny, tmp_path, "--images", "3") == 2
    assert (
        "search.jsonl: is a journal of other --images; --force starts anew"
        in capsys.readouterr().err
    )
