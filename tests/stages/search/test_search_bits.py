"""`make search --bits` from the command line: answers, resuming, mistakes of a user."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_set import TinySet

from yoloq.__main__ import main
from yoloq.engines.source import Source
from yoloq.measure.layer_times import LayerTimes
from yoloq.quant.policy import Policy
from yoloq.quant.quantized import load_quantized
from yoloq.stages.ptq import PtqConfig
from yoloq.stages.ptq.repaired import repair
from yoloq.stages.search import screen
from yoloq.stages.search.bits import bit_trials, prices

BUDGET = "size=300kB"
ASKED = ("--bits", "4,8,16", "--budget", BUDGET)
QUICK = ("--engine", "torch", "--trials", "4", "--screen", "4", "--threads", "1")


def search(tiny: TinySet, project: Path, *flags: str) -> int:
    return main("search", tiny.flags(project, *QUICK, *flags))


def read(project: Path) -> dict[str, Any]:
    return json.loads((project / "run" / "search.json").read_text())


def journal(project: Path) -> list[dict[str, Any]]:
    lines = (project / "run" / "search-bits.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def bias_alone(inputs: Any, ptq: PtqConfig, *rest: Any) -> None:
    """A repair that takes a tenth of the time of the default one."""
    repair(inputs, replace(ptq, refine=("bias",)), *rest)


@pytest.fixture(autouse=True, scope="module")
def quick_repairs_on_one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # of the search that the tests share as well
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(screen, "repair", bias_alone)
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def searched(tiny: TinySet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    project = tmp_path_factory.mktemp("runs")
    assert search(tiny, project, *ASKED) == 0
    return project


def test_the_answer_is_the_best_within_the_budget(searched: Path) -> None:
    notes = read(searched)["notes"]
    points = notes["points"]
    mixed = [point for point in points if not point["uniform"]]
    assert {point["name"] for point in points if point["uniform"]} == {
        "everything in 4x8",
        "everything in 8x8",
    }
    assert 2 <= len(mixed) <= 4 and len({point["name"] for point in points}) == len(points)
    for point in points:
        assert point["cost"] == point["packed_bytes"] / 1e6
        assert point["uniform"] or point["packed_bytes"] <= 300_000
        low, high = point["loss_ci95"]
        assert -1e-9 <= low <= high <= 1
        beaten = [p for p in points if p["cost"] < point["cost"] and p["loss"] <= point["loss"]]
        assert not (point["front"] and beaten)
    within = [point for point in points if point["cost"] <= 0.3]
    [answer] = [point for point in points if point["answer"]]
    assert answer["name"] == notes["chosen"] and answer in within
    assert answer["loss"] == min(point["loss"] for point in within)
    assert notes["verdict"].startswith(f"the best within {BUDGET}: {answer['name']} (0.")


def test_its_files(searched: Path) -> None:
    run = searched / "run"
    names = {file.name for file in run.iterdir()}
    assert {"search.json", "search-bits.jsonl", "search.md", "search.png"} <= names
    assert not [name for name in names if name.startswith(".")]
    text = (run / "search.md").read_text()
    assert text.startswith(f"the best within {BUDGET}: ")
    assert "| answer |" in text and "| everything in 4x8 |" in text


def test_layers_have_the_bits_that_they_may_have(searched: Path) -> None:
    widths = read(searched)["notes"]["widths"]
    edges = {name for name in widths if name.startswith(("model.0.", "model.24."))}
    assert {widths[name] for name in edges} <= {"8x8", "16"}
    assert {widths[name] for name in widths if name not in edges} <= {"4x8", "8x8", "16"}


def test_ptq_takes_the_policy_and_finds_what_the_search_did(
    searched: Path, tiny: TinySet, tmp_path: Path
) -> None:
    file = searched / "run" / "search-policy.json"
    assert main("ptq", tiny.flags(tmp_path, "--policy", str(file), "--refine", "bias")) == 0
    made = load_quantized(tmp_path / "run" / "ptq.pt")
    assert made.policy == Policy.from_json(json.loads(file.read_text()))
    bits = {
        name: f"{plan.weight.bits}x{plan.activation.bits}" if plan.weight else "16"
        for name, plan in made.placement.layers.items()
    }
    assert bits == read(searched)["notes"]["widths"]
    [answer] = [point for point in read(searched)["notes"]["points"] if point["answer"]]
    [row] = json.loads((tmp_path / "run" / "ptq.json").read_text())["rows"]
    assert row["fidelity"] == pytest.approx(1 - answer["loss"], abs=1e-6)
    assert row["map50_95"] == pytest.approx(answer["map50_95"], abs=1e-6)


def test_another_budget_uses_what_was_measured(
    searched: Path, tiny: TinySet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(searched / "run", tmp_path / "run")
    assert search(tiny, tmp_path, "--bits", "4", "8", "--budget", "bops=1G", "--trials", "2") == 0
    before, after = journal(searched), journal(tmp_path)
    assert after[: len(before)] == before
    named = [line["name"] for line in after[len(before) :]]
    assert not [name for name in named if name.startswith(("everything", "model."))]
    notes = read(tmp_path)["notes"]
    assert notes["budget"]["kind"] == "bops" and notes["verdict"] in capsys.readouterr().err
    for point in notes["points"]:
        assert point["uniform"] or 0 < point["cost"] <= 1


def test_a_killed_search_goes_on_behind_its_last_trial(
    searched: Path, tiny: TinySet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(searched / "run", tmp_path / "run")
    run = tmp_path / "run"
    (run / "search.json").unlink()
    lines = (run / "search-bits.jsonl").read_text().splitlines(keepends=True)
    (run / "search-bits.jsonl").write_text("".join(lines[:-1]))
    left = run / f".search-{'0' * 32}"
    left.mkdir()
    measured = []
    real = bit_trials.BitTrials._measured

    def watch(self: bit_trials.BitTrials, name: str, choice: Any) -> Any:
        measured.append(name)
        return real(self, name, choice)

    monkeypatch.setattr(bit_trials.BitTrials, "_measured", watch)
    assert search(tiny, tmp_path, *ASKED) == 0
    assert measured == [journal(searched)[-1]["name"]]
    assert journal(tmp_path) == journal(searched)
    assert read(tmp_path)["notes"] == read(searched)["notes"]
    assert not left.exists()


def test_a_finished_search_is_reused(
    searched: Path, tiny: TinySet, capsys: pytest.CaptureFixture[str]
) -> None:
    before = journal(searched)
    assert search(tiny, searched, *ASKED) == 0
    said = capsys.readouterr().err
    assert "up to date" in said and read(searched)["notes"]["verdict"] in said
    assert journal(searched) == before


def test_latency_counts_only_what_the_engine_has_kernels_for(
    searched: Path,
    tiny: TinySet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("openvino")
    for name in ("baseline.json", "baseline.npz", "baseline-record.npz"):
        (tmp_path / "run").mkdir(exist_ok=True)
        shutil.copy(searched / "run" / name, tmp_path / "run")

    def profiled(engine: Any, source: Source, *_: Any) -> dict[str, LayerTimes]:
        names = source.quantized.placement.layers
        whole = {"int8": (0.01, 1.0), "fp32": (0.02, 1.6)}
        return {k: LayerTimes(dict.fromkeys(names, ms), {}, 0.0, {}, {}, all_of)
                for k, (ms, all_of) in whole.items()}  # fmt: skip

    monkeypatch.setattr(prices, "measure_layer_times", profiled)
    flags = ("--engine", "openvino", "--runs", "2", "--trials", "2", "--images", "2")
    assert search(tiny, tmp_path, "--bits", "4,8,16", "--budget", "latency=1.5ms", *flags) == 0
    said = capsys.readouterr().err
    assert "--bits 4x8: openvino has no kernels for them, so that they save no time: left" in said
    assert set(read(tmp_path)["notes"]["widths"].values()) <= {"8x8", "16"}
    assert all(point["cost"] > 0 for point in read(tmp_path)["notes"]["points"])
    # 60 layers of 0.01 ms and 0.4 ms of others; in float all are 0.6 ms slower: 0.01 ms each
    flags = ("--engine", "openvino", "--runs", "2", "--images", "2")
    assert search(tiny, tmp_path, "--bits", "8", "--budget", "latency=0.9ms", *flags) == 2
    assert "latency=0.9ms: the least here is 1.00 ms (60 in 8x8 bits)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        pytest.param(["--bits", "0", "--budget", BUDGET], "--bits 0: '0' is not one of", id="0"),
        pytest.param(["--bits", "4,9", "--budget", BUDGET], "'9' is not one of 2 to 8", id="9"),
        pytest.param(["--bits", "few", "--budget", BUDGET], "'few' is not one of", id="text"),
        pytest.param(["--bits", "16", "--budget", BUDGET], "--bits 16: must be of", id="float"),
        pytest.param(["--bits", "4,8"], "--bits 4x8 8x8: must be given with --budget", id="alone"),
        pytest.param(["--budget", BUDGET], "must be given with --bits", id="budget alone"),
        pytest.param(["--bits", "4", "--budget", "1.2"], "must be size=1.2MB", id="no kind"),
        pytest.param([*ASKED, "--max-drop", "0.1"], "--max-drop 0.1: must be left out", id="drop"),
        pytest.param(
            ["--bits", "8", "--budget", "latency=1ms"],
            "simulates int8 and has no speed",
            id="torch",
        ),
        pytest.param(
            ["--bits", "4x4", "--budget", "latency=1ms", "--engine", "openvino"],
            "openvino has no kernels for them, so that they save no time; give 8",
            id="no kernels",
        ),
        pytest.param(
            ["--bits", "8,16", "--budget", "size=90MB"],
            "which is within it; lower it, or give --bits without 16",
            id="float",
        ),
        pytest.param(
            ["--bits", "4,8", "--budget", "size=9kB"],
            "--budget size=9kB: the least here is 0.2",
            id="nothing is within",
        ),
    ],
)
def test_mistakes(
    flags: list[str], words: str, tiny: TinySet, tmp_path: Path, the_error: Callable[[], str]
) -> None:
    assert search(tiny, tmp_path, *flags) == 2
    assert words in the_error()
    assert not (tmp_path / "run").exists()


def test_the_nearest_budget_is_met(
    tiny: TinySet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = ("--bits", "4", "--trials", "2", "--limit", "2")
    assert search(tiny, tmp_path, *few, "--budget", "size=9kB") == 2
    words = capsys.readouterr().err.split("the least here is ")[1].split()
    assert "in 4x8" in " ".join(words)
    assert search(tiny, tmp_path, *few, "--budget", f"size={words[0]}MB") == 0
    assert read(tmp_path)["notes"]["chosen"]


def test_a_journal_of_other_images_is_refused(
    searched: Path, tiny: TinySet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(searched / "run", tmp_path / "run")
    assert search(tiny, tmp_path, *ASKED, "--images", "3") == 2
    text = "search-bits.jsonl: is a journal of other --images; --force starts anew"
    assert text in capsys.readouterr().err
