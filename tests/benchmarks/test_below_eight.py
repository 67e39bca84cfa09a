"""The part on eight bits and fewer: what is run, from what, what is kept, and the gains."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import below_eight
import pytest
from below_eight import METHODS, SETTINGS, Run, cases, figures, line
from growth import Cost
from subject import Subject

from yoloq.base.config import parse
from yoloq.base.result import Row, StageResult
from yoloq.stages.ptq import PtqConfig
from yoloq.stages.qat import QatConfig

ROW = Row("INT8", "int8", "torch", map50_95=0.3, map50=0.5)


def test_few_bits_have_all_methods_and_others_what_is_quick() -> None:
    names = {setting: [n for s, n in cases([setting]) if s == setting] for setting in SETTINGS}
    assert names["W4A4"] == list(METHODS)
    assert names["W8A8"] == [
        *("PTQ", "PTQ, gptq", "PTQ, bias", "PTQ, gptq and bias"),
        "QAT",
    ]
    assert "QAT" not in names["W8A8 head"]


def test_a_method_is_measured_where_the_one_is_that_it_is_compared_with() -> None:
    for setting, name in cases(tuple(SETTINGS)):
        if over := METHODS[name].against:
            assert (setting, over) in set(cases([setting]))
            assert list(METHODS).index(over) < list(METHODS).index(name)


@pytest.mark.parametrize("name", METHODS)
def test_its_stage_takes_its_flags(name: str) -> None:
    method = METHODS[name]
    kind: Any = {"ptq": PtqConfig, "qat": QatConfig}[method.stage]
    parse(kind, method.flags.format(all="--epochs 4", fewer="--epochs 3").split())


def runs(*values: tuple[float, float]) -> list[Run]:
    """Of (AP as a fraction, fidelity), a seed each."""
    made = [replace(ROW, map50_95=ap, fidelity=alike) for ap, alike in values]
    return [Run(row, Cost(10.0 * i, 15.0 * i, 100.0 * i)) for i, row in enumerate(made, 1)]


def test_gains_are_taken_seed_by_seed() -> None:
    found = {("W4A4", "QAT"): runs((0.40, 0.7), (0.50, 0.8))}
    found |= {("W4A4", "QAT, correction"): runs((0.42, 0.75), (0.51, 0.81))}
    assert line("W4A4", "QAT, correction", found) == (
        *("W4A4", "QAT, correction", "2"),
        *("46.50 (42.00 to 51.00)", "+1.50 (+1.00 to +2.00)"),
        *("0.780 (0.750 to 0.810)", "+0.030 (+0.010 to +0.050)", "QAT", 15.0, 22.5, 200.0),
    )
    [figure] = figures(subject(Path()), found, 60.0)
    # the least with correction is that of the first seed, the largest without of the second
    assert figure.value == pytest.approx(-8.0) and figure.passed is False


def test_plain_calibration_gains_over_nothing() -> None:
    cells = line("W8A8", "PTQ", {("W8A8", "PTQ"): runs((0.3, 0.9))})
    assert cells == ("W8A8", "PTQ", "1", "30.00", None, "0.900", None, None, 10.0, 15.0, 100.0)


def subject(folder: Path) -> Subject:
    return Subject("synthetic", folder / "w.pt", folder / "d.yaml", None, 0)


def test_a_run_is_kept_with_its_cost_until_its_flags_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[list[str]] = []

    def cost(arguments: list[str]) -> Cost:
        calls.append(arguments)
        stage, name = arguments[0], arguments[arguments.index("--name") + 1]
        result = StageResult(stage, "", {}, {}, {}, {}, (ROW,))
        (tmp_path / name / f"{stage}.json").write_text(json.dumps(asdict(result)))
        return Cost(7.0, 6.0, 500.0)

    def base(config: Any) -> None:
        config.folder.mkdir(parents=True, exist_ok=True)

    monkeypatch.setattr(below_eight, "WORK", tmp_path)
    monkeypatch.setattr("subject.WORK", tmp_path)
    monkeypatch.setattr(below_eight, "cost", cost)
    monkeypatch.setattr(below_eight.baseline, "run", base)
    here = subject(tmp_path)
    monkeypatch.setitem(here.__dict__, "inputs", Sha())
    for _ in range(2):
        found = below_eight.run(here, "W4A4", "QAT, focus", 1)
        assert (found.row, found.cost) == (ROW, Cost(7.0, 6.0, 500.0))
    # what it starts from comes first, each once
    assert [arguments[0] for arguments in calls] == ["ptq", "ptq", "qat"]
    assert calls[2][calls[2].index("--epochs") + 1] == str(below_eight.EPOCHS["synthetic"])
    assert calls[1][-6:] == ["--refine", "gptq", *SETTINGS["W4A4"].split()]
    assert calls[2][calls[2].index("--seed") + 1] == "1" and calls[2][-2:] == ["--lr", "3e-3"]
    monkeypatch.setitem(below_eight.RATES, "W4A4", "--lr 1e-3")
    below_eight.run(here, "W4A4", "QAT, focus", 1)
    assert [arguments[0] for arguments in calls] == ["ptq", "ptq", "qat", "qat"]


class Sha:
    """Inputs of which the checkpoint's hash alone is looked at."""

    model = type("Model", (), {"sha256": "0" * 64})
