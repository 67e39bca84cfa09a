"""The pieces of the sweep: candidates, stored activations, journal, scores, search."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_quant import as_input, pictures, tiny_model, tiny_quantized

from yoloq.base.errors import PolicyError, RunError
from yoloq.base.journal import Journal
from yoloq.geometry.detections import Detections, GroundTruth
from yoloq.measure.ap import fidelity, score
from yoloq.measure.bootstrap import paired_bootstrap
from yoloq.measure.match import match
from yoloq.models import FAMILIES
from yoloq.models.layered import IMAGE
from yoloq.stages.sensitivity.candidates import Candidate, find_candidates
from yoloq.stages.sensitivity.frontier import Frontier
from yoloq.stages.sensitivity.scores import Scorer, gain, spearman
from yoloq.stages.sensitivity.search import Choice, find_policy, ranked
from yoloq.stages.sensitivity.sweep import SwitchedNets
from yoloq.stages.sensitivity.sweep_lines import LINES, Scored, Screened, Timed, Tried

pytestmark = pytest.mark.usefixtures("one_thread")


def test_candidates_are_what_the_policy_quantizes() -> None:
    placement = tiny_quantized().placement
    blocks = find_candidates(placement, "block")
    assert [c.name for c in blocks] == [
        f"model.{i}" for i in (2, 3, 4, 5, 6, 7, 8, 9, 10, 13, 14, 17, 18, 20, 21, 23)
    ]
    assert blocks[1] == Candidate("model.3", 3, ("model.3.conv",))
    convs = find_candidates(placement, "conv")
    assert [name for c in blocks for name in c.layers] == [c.name for c in convs]
    assert len(convs) == 55


@pytest.mark.parametrize(
    ("chosen", "names"),
    [
        pytest.param(["model.9"], ["model.9.cv1.conv", "model.9.cv2.conv"], id="block"),
        pytest.param(["model.9.cv1"], ["model.9.cv1.conv"], id="module"),
        pytest.param(["model.1?.conv"], [f"model.{i}.conv" for i in (10, 14, 18)], id="*"),
    ],
)
def test_chosen_candidates(chosen: list[str], names: list[str]) -> None:
    assert [c.name for c in find_candidates(tiny_quantized().placement, "conv", chosen)] == names


@pytest.mark.parametrize("chosen", ["model.99", "model.24", "modle.2"])
def test_an_unknown_candidate_is_named_with_near_ones(chosen: str) -> None:
    with pytest.raises(PolicyError, match=rf"{chosen}.* near names: .*model\.\d"):
        find_candidates(tiny_quantized().placement, "block", [chosen])


def states(net: torch.nn.Module) -> list[dict[int, torch.Tensor]]:
    return [{IMAGE: batch} for batch in as_input(pictures(5)).split(2)]


@pytest.mark.parametrize("memory", [10**9, 20_000, 0], ids=["memory", "both", "files"])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("mode", ["leave-one-out", "one-at-a-time"])
def test_reused_activations_give_the_same_bits(
    family: str, mode: str, memory: int, tmp_path: Path
) -> None:
    quantized = tiny_quantized(family)
    variants = SwitchedNets(quantized.model.net, quantized.placement, mode)
    images = as_input(pictures(5)).split(2)
    plain = variants.frontier(images, 0, 10**9, tmp_path)
    candidates = find_candidates(quantized.placement, "conv" if memory else "block")
    (tmp_path / "kept").mkdir()
    reused = variants.frontier(images, candidates[0].block, memory, tmp_path / "kept")
    different = 0
    base = list(variants.maps(plain, None))
    for candidate in candidates:
        variants.move(reused, candidate.block)
        expected = list(variants.maps(plain, candidate))
        found = list(variants.maps(reused, candidate))
        assert len(found) == 3
        for a, b in zip(expected, found, strict=True):
            assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True)), candidate.name
        different += not torch.equal(base[0][0], found[0][0])
    assert different > len(candidates) / 2, "switching a layer changes the output"
    assert bool(list((tmp_path / "kept").iterdir())) == (memory < 10**9)


def test_every_candidate_is_switched_from_its_own_base() -> None:
    """Against policies: one that leaves the layer out, and one that quantizes it alone."""
    quantized = tiny_quantized()
    placement = quantized.placement
    candidate = find_candidates(placement, "block", ["model.6"])[0]
    others = [c.name for c in find_candidates(placement, "block") if c.name != "model.6"]
    images = as_input(pictures(2))
    for mode, kept in (("leave-one-out", ["model.6"]), ("one-at-a-time", others)):
        variants = SwitchedNets(quantized.model.net, placement, mode)  # type: ignore[arg-type]
        frontier = variants.frontier([images], 0, 10**9, Path())
        [found] = variants.maps(frontier, candidate)
        with torch.inference_mode():
            expected = tiny_quantized(keep_float=kept).model.net(images)
        assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True)), mode


def test_the_base_of_one_at_a_time_is_the_float_network() -> None:
    quantized = tiny_quantized()
    variants = SwitchedNets(quantized.model.net, quantized.placement, "one-at-a-time")  # type: ignore[arg-type]
    images = as_input(pictures(2))
    [found] = variants.maps(variants.frontier([images], 4, 10**9, Path()), None)
    with torch.inference_mode():
        expected = tiny_model().net(images)
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


def test_a_frontier_does_not_go_back() -> None:
    frontier = Frontier([{0: torch.zeros(2)}], 3, 100, Path())
    with pytest.raises(ValueError, match="at block 3, cannot go back to 2"):
        frontier.move(lambda state: state, 2)


SUBJECT = {"weights": "a", "data": "b", "policy": "c"}


def test_a_journal_goes_on_where_it_was(tmp_path: Path) -> None:
    file = tmp_path / "sensitivity.jsonl"
    first = Journal(file, SUBJECT, LINES)
    first.append(Tried("model.2", 0.5, 0.4))
    first.append(Scored("model.2", 30.0, 0.9, (0.5, 0.4), (0.3,), (0.6,)))
    first.append(Timed("torch", {"model.2.cv1.conv": (1.0, 2.5)}))
    again = Journal(file, SUBJECT, LINES)
    assert again.lines == first.lines
    assert again.find(Scored, "model.2") == first.lines[1]
    assert again.find(Screened, "model.2") is None
    assert not Journal(file, SUBJECT, LINES, fresh=True).lines


def test_a_journal_that_was_cut_at_any_byte_goes_on(tmp_path: Path) -> None:
    file = tmp_path / "sensitivity.jsonl"
    journal = Journal(file, SUBJECT, LINES)
    for index in range(3):
        journal.append(Tried(f"model.{index}", index / 3, 0.5))
    whole = file.read_bytes()
    ends = [i for i, byte in enumerate(whole) if byte == ord("\n")]
    for cut in range(len(whole) + 1):
        file.write_bytes(whole[:cut])
        kept = max(sum(end < cut for end in ends) - 1, 0)
        lines = Journal(file, SUBJECT, LINES).lines
        assert [line.name for line in lines] == [f"model.{i}" for i in range(kept)]
        assert len(file.read_text().splitlines()) == kept + 1, "the cut line is gone"


@pytest.mark.parametrize("name", SUBJECT)
def test_a_journal_of_something_else_is_refused(name: str, tmp_path: Path) -> None:
    file = tmp_path / "sensitivity.jsonl"
    Journal(file, SUBJECT, LINES).append(Tried("model.2", 0.5, 0.4))
    before = file.read_bytes()
    with pytest.raises(RunError, match=rf"sensitivity.jsonl: .*journal of other {name}; --force"):
        Journal(file, SUBJECT | {name: "other"}, LINES)
    assert file.read_bytes() == before


@pytest.mark.parametrize("text", ["no json\n", "[]\n", '{"a": 1}\n', '{"subject": {}}\n[1]\n'])
def test_a_file_that_is_no_journal_is_named(text: str, tmp_path: Path) -> None:
    file = tmp_path / "sensitivity.jsonl"
    file.write_text(text)
    with pytest.raises(RunError, match=r"sensitivity.jsonl: is no journal"):
        Journal(file, SUBJECT, LINES)


def boxes(seed: int, shift: float) -> Detections:
    """A hundred detections on ten images, moved by up to `shift` pixels."""
    random = np.random.default_rng(0)
    corners = random.uniform(0, 400, (100, 2))
    sides = random.uniform(20, 90, (100, 2))
    moved = np.random.default_rng(seed).uniform(-shift, shift, (100, 4))
    return Detections(
        images=10,
        image=np.sort(random.integers(0, 10, 100)),
        boxes=(np.concatenate((corners, corners + sides), 1) + moved).astype(np.float32),
        scores=random.uniform(0.2, 1, 100).astype(np.float32),
        classes=random.integers(0, 3, 100),
    )


def test_scores_are_those_of_coco() -> None:
    reference, found = boxes(1, 0), boxes(2, 12)
    labels = boxes(3, 6)
    truth = GroundTruth(
        10, labels.image, labels.boxes, labels.classes,
        (labels.boxes[:, 2:] - labels.boxes[:, :2]).prod(1), np.zeros(100, bool),
    )  # fmt: skip
    scorer = Scorer(truth, reference, nc=3, seed=0, resamples=200)
    ours, coco = scorer(found), score(truth, found, 3)
    assert ours.map50_95[0] == pytest.approx(coco.map50_95, abs=1e-6)
    assert ours.map50[0] == pytest.approx(coco.map50, abs=1e-6)
    assert ours.fidelity[0] == pytest.approx(fidelity(reference, found, 3), abs=1e-6)
    assert scorer.fidelity(found) == pytest.approx(ours.fidelity[0])
    assert scorer.map50_95(found) == pytest.approx(ours.map50_95[0])
    expected = paired_bootstrap(match(truth, found, 3), match(truth, labels, 3), 200)
    better = gain(ours, scorer(labels))
    assert better.map50_95 == expected
    assert better.map50.delta == pytest.approx(score(truth, labels, 3).map50 - coco.map50)
    assert better.map50.low < better.map50.delta < better.map50.high


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        pytest.param([1, 2, 3, 4], [10, 20, 30, 40], 1.0, id="same order"),
        pytest.param([1, 2, 3], [3, 2, 1], -1.0, id="reversed"),
        pytest.param([1, 2, 3, 4], [1, 3, 2, 4], 0.8, id="one pair swapped"),
        pytest.param([1, 1, 2, 3], [1, 2, 3, 4], 0.9486832980505138, id="a tie"),
        pytest.param([1, 2], [1, 2], None, id="too few"),
        pytest.param([1, 1, 1], [1, 2, 3], None, id="constant"),
    ],
)
def test_rank_correlation(a: list[float], b: list[float], expected: float | None) -> None:
    found = spearman(a, b)
    assert found == (expected if expected is None else pytest.approx(expected))


def test_what_costs_no_time_is_worth_most() -> None:
    choices = [Choice("a", 0.02, 1.0), Choice("b", 0.01, 0.1), Choice("c", 0.005, -0.3)]
    assert [c.name for c in ranked(choices)] == ["c", "b", "a"]
    assert [c.name for c in ranked([Choice("a", 0.01), Choice("b", 0.02)])] == ["b", "a"]


def additive(gains: dict[str, float], total: float):
    """A drop from which each layer in float takes its gain."""
    return lambda floats: total - sum(gains[name] for name in floats)


GAINS = {"a": 0.03, "b": 0.02, "c": 0.01, "d": 0.0}


@pytest.mark.parametrize(
    ("max_drop", "most", "floats", "reached"),
    [
        pytest.param(0.07, 4, (), True, id="nothing to do"),
        pytest.param(0.04, 4, ("a",), True, id="one is enough"),
        pytest.param(0.02, 4, ("a", "b"), True, id="two"),
        pytest.param(0.005, 4, ("a", "b", "c"), True, id="all that gain"),
        pytest.param(0.005, 2, ("a", "b"), False, id="may not keep as many"),
        pytest.param(-0.1, 4, ("a", "b", "c"), False, id="out of reach"),
    ],
)
def test_search_on_additive_gains(
    max_drop: float, most: int, floats: tuple[str, ...], reached: bool
) -> None:
    choices = [Choice(name, value) for name, value in GAINS.items()]
    found = find_policy(choices, additive(GAINS, 0.06), max_drop, most)
    assert (found.floats, found.reached) == (floats, reached)
    assert found.drop == pytest.approx(0.06 - sum(GAINS[name] for name in floats))


def test_search_measures_the_whole_policy_and_backs_off() -> None:
    """Alone each layer seems to gain; in fact c does it all, and b costs more time than c."""

    def measure(floats: frozenset[str]) -> float:
        return 0.0 if "c" in floats else 0.05

    choices = [Choice("a", 0.04, 0.1), Choice("b", 0.04, 0.2), Choice("c", 0.04, 0.3)]
    found = find_policy(choices, measure, 0.01, 3)
    assert found.floats == ("c",)
    assert found.reached and found.drop == 0
    sets = [floats for floats, _ in found.tried]
    assert len(sets) == len(set(sets)), "no set is measured twice"


def test_search_prefers_the_cheap_layer() -> None:
    choices = [Choice("slow", 0.05, 3.0), Choice("quick", 0.03, 0.1)]
    found = find_policy(choices, additive({"slow": 0.05, "quick": 0.03}, 0.06), 0.035, 2)
    assert found.floats == ("quick",)


def test_journal_lines_are_json(tmp_path: Path) -> None:
    file = tmp_path / "sensitivity.jsonl"
    Journal(file, SUBJECT, LINES).append(Screened("model.2", 31.5, 0.99, 0.002))
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert lines == [
        {"subject": SUBJECT},
        {"part": "screen", "name": "model.2", "snr": 31.5, "cosine": 0.99, "apart": 0.002},
    ]
