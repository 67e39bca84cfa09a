"""The verdict follows from the rows: what to ship, or why no int8, and which layers cost it."""

from dataclasses import replace
from pathlib import Path

import pytest
from report_run import float_row, int8_row, whole_run, write, write_engine

from yoloq.base.result import Row
from yoloq.report.recommendation import verdict
from yoloq.report.run_folder import RunFolder, open_run
from yoloq.stages.report.stage import DEFAULTS

FP32, BF16 = float_row("fp32", 8.0), float_row("bf16", 6.0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return whole_run(tmp_path / "run")


def opened(folder: Path, *rows: Row) -> RunFolder:
    if rows:
        write_engine(folder, *rows)
    return open_run(folder, DEFAULTS)


def test_an_int8_engine_that_is_faster_and_as_good_is_shipped(folder: Path) -> None:
    found = verdict(opened(folder))
    assert found.words == (
        "Ship OpenVINO INT8 PTQ: 0.1 points below FP32 (95%: -0.7 to +0.4), 2 times faster, "
        "3 times smaller (4.00 ms); head in float"
    )
    assert found.reasons == (
        "Against the fastest 16-bit engine, OpenVINO BF16 (6.00 ms): 1.5 times faster.",
    )
    assert (found.ship, found.worth) == (("openvino", "int8"), True)


def test_int8_that_is_no_faster_is_not_worth_it_and_its_slow_layers_are_named(folder: Path) -> None:
    found = verdict(opened(folder, FP32, BF16, int8_row(p50=5.9)))
    assert found.words == (
        "Int8 is not worth it here: OpenVINO INT8 PTQ takes 5.90 ms, OpenVINO BF16 6.00 ms. "
        "Ship OpenVINO BF16"
    )
    slow, search = found.reasons
    assert slow.startswith("Slower in int8: model.24.m.0 (+0.100 ms), model.1.cv2.conv (+0.100 ms)")
    assert search.startswith("Another placement may be faster: `make search WEIGHTS=")
    assert (found.ship, found.worth) == (("openvino", "bf16"), False)


@pytest.mark.parametrize(
    ("without", "named"),
    [
        ((), "Layers whose return to float gains most fidelity: model.0.conv (+0.0200)"),
        (("sensitivity",), "Layers with the most error of their own: model.0.conv (24.5 dB)"),
        (("sensitivity", "diagnose"), "Which layers cost it: `make sensitivity "),
    ],
)
def test_int8_that_loses_too_much_is_not_worth_it(
    without: tuple[str, ...], named: str, folder: Path
) -> None:
    for stage in without:
        (folder / f"{stage}.json").unlink()
    lossy = replace(int8_row(), delta=-0.021, delta_ci95=(-0.03, -0.012))
    found = verdict(opened(folder, FP32, lossy))
    assert found.words.startswith(
        "Int8 is not worth it here as it is: the best, OpenVINO INT8 PTQ: 2.1 points below FP32 "
        "(95%: -3.0 to -1.2), 2 times faster"
    )
    assert found.words.endswith("Ship OpenVINO FP32 (8.00 ms)")
    assert found.reasons[0].startswith(named)
    assert "`make qat " in found.reasons[1]


def test_the_fastest_int8_is_passed_over_where_another_loses_less(folder: Path) -> None:
    lossy = replace(int8_row("INT8 QAT", p50=3.0), precision="int8-qat", delta=-0.05)
    found = verdict(opened(folder, FP32, int8_row(), lossy))
    assert found.ship == ("openvino", "int8")
    assert found.reasons == ("Faster, but more than 1 point below FP32: OpenVINO INT8 QAT (-5.0).",)


def test_larger_batches_are_not_mixed_with_single_images(folder: Path) -> None:
    many = float_row("fp32", 16.0)
    assert many.latency_ms is not None
    many = replace(many, latency_ms=many.latency_ms | {"batch": 32, "p50": 1.0})
    assert verdict(opened(folder, FP32, int8_row(), many)).ship == ("openvino", "int8")


def test_without_an_engine_it_is_said_what_to_build(folder: Path) -> None:
    (folder / "engine-openvino.json").unlink()
    found = verdict(opened(folder))
    assert found.words == (
        "No int8 engine was timed beside a float one yet. PyTorch INT8 PTQ: 0.1 points below FP32 "
        "(95%: -0.7 to +0.4), fidelity 0.980; head in float"
    )
    assert found.reasons[0].startswith("Build and time it: `make engine ")
    assert found.worth is None and found.ship is None


def test_without_int8_it_is_said_what_to_calibrate(folder: Path) -> None:
    for stage in ("engine-openvino", "ptq", "qat"):
        (folder / f"{stage}.json").unlink()
    found = verdict(opened(folder))
    assert found.words == "Only FP32 was measured: nothing is quantized yet."
    assert found.reasons[0].startswith("Calibrate it: `make ptq ")


def test_a_simulated_int8_claims_no_speed(folder: Path) -> None:
    simulated = replace(int8_row(engine="torch"), simulated=True)
    (folder / "engine-openvino.json").unlink()
    write(folder, "engine-torch", float_row("fp32", 9.0, "torch"), simulated)
    assert verdict(opened(folder)).worth is None
