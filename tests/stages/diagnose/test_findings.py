"""Planted faults are named with their layer and kind; healthy networks raise none of them."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_quant import USUAL, as_input, pictures, tiny_model, tiny_quantized
from torch import Tensor, nn

from yoloq.data.loader import iterate
from yoloq.graph.export import float_copy
from yoloq.measure.compare import LayerError, compare
from yoloq.models.layered import LayeredNet
from yoloq.models.load import LoadedModel, load_model
from yoloq.quant.calibrate import calibrate
from yoloq.quant.observer import collect
from yoloq.quant.policy import conv_layers, default_policy
from yoloq.quant.quantized import QuantizedModel, quantize_model
from yoloq.quant.statistics import Statistics
from yoloq.quant.trace import sibling_groups, trace
from yoloq.stages.diagnose import findings
from yoloq.stages.diagnose.figures import CalibrationFigures, Figures, RangeFit, gather
from yoloq.stages.diagnose.findings import Finding, find
from yoloq.stages.diagnose.local import LocalError, measure
from yoloq.stages.diagnose.tensors import ActivationFigures, WeightFigures

pytestmark = pytest.mark.usefixtures("one_thread")

PLANTED = {
    findings.NOT_FINITE,
    findings.CALIBRATION,
    findings.WIDE,
    findings.NARROW,
    findings.WEIGHT_OUTLIER,
    findings.ACTIVATION_OUTLIER,
    findings.COARSE,
}
Calibrated = tuple[QuantizedModel, Mapping[str, Statistics]]


def calibrated(
    model: LoadedModel, batches: Sequence[Tensor], calibrator: str = "mse", **placement: str
) -> Calibrated:
    """A quantized copy of a model and the statistics that it was calibrated on."""
    images = sum(len(batch) for batch in batches)
    seen = collect(model.net, sibling_groups(trace(model.net)), batches, images).inputs
    policy = default_policy(conv_layers(model.net), **USUAL | placement)  # type: ignore[arg-type]
    quantized = quantize_model(replace(model, net=copy.deepcopy(model.net)), policy)
    calibrate(quantized.model.net, quantized.placement, seen, calibrator)
    return quantized, seen


def diagnosed(made: Calibrated, batches: Sequence[Tensor]) -> list[Finding]:
    quantized, seen_before = made
    net, reference = quantized.model.net, float_copy(quantized.model.net)
    assert isinstance(net, LayeredNet) and isinstance(reference, LayeredNet)
    groups = sibling_groups(trace(reference))
    images = sum(len(batch) for batch in batches)
    errors = compare(reference, net, batches)
    local, seen = measure(reference, net, groups, batches, images)
    return find(gather(net, quantized.placement, groups, errors, local, seen, seen_before))


def widen(quantized: QuantizedModel, layer: str, factor: float) -> None:
    quantizer = quantized.model.net.get_submodule(f"{layer}.input_quantizer")
    quantizer.set_range(quantizer.low * factor, quantizer.high * factor)  # type: ignore[operator]


def scale_channel(net: nn.Module, layer: str, channel: int, factor: float) -> None:
    with torch.no_grad():
        net.get_submodule(layer).weight[channel] *= factor  # type: ignore[index,union-attr]


def kinds(found: Sequence[Finding]) -> set[tuple[str, str]]:
    return {(finding.kind, finding.layer) for finding in found if finding.kind in PLANTED}


TRAIN = as_input(pictures(16, seed=2)).split(8)
VAL = as_input(pictures(8, seed=7)).split(4)


@pytest.mark.parametrize("family", ["yolov5", "ultralytics"])
@pytest.mark.parametrize("sharing", ["siblings", "concat"])
def test_a_healthy_network_raises_nothing(family: str, sharing: str) -> None:
    assert kinds(diagnosed(calibrated(tiny_model(family), TRAIN, sharing=sharing), VAL)) == set()


@pytest.mark.parametrize(
    ("layer", "named"),
    [
        ("model.8.cv1.conv", "model.8.cv1.conv"),
        ("model.8.cv2.conv", "model.8.cv1.conv"),  # shares the range
        ("model.3.conv", "model.3.conv"),
        ("model.6.m.1.cv2.conv", "model.6.m.1.cv2.conv"),
    ],
)
def test_a_range_20_times_too_wide(layer: str, named: str) -> None:
    made = calibrated(tiny_model(), TRAIN)
    quantizer = made[0].model.net.get_submodule(f"{layer}.input_quantizer")
    right = float(quantizer.amax)  # type: ignore[arg-type]
    widen(made[0], layer, 20)
    found = diagnosed(made, VAL)
    assert kinds(found) == {(findings.WIDE, named)}
    [wide] = [finding for finding in found if finding.kind == findings.WIDE]
    offered = float(wide.advice.split("--amax ")[1].split("=")[1].split('"')[0])
    assert offered == pytest.approx(right, rel=0.2)
    assert f"--amax {named.removesuffix('.conv')}=" in wide.advice


def test_a_range_a_quarter_of_what_is_needed() -> None:
    made = calibrated(tiny_model(), TRAIN)
    widen(made[0], "model.6.cv1.conv", 0.25)
    found = diagnosed(made, VAL)
    assert kinds(found) == {(findings.NARROW, "model.6.cv1.conv")}
    assert "of its error is clipping (shared with model.6.cv2.conv)" in found[0].text


def test_a_channel_with_100_times_the_weights() -> None:
    model = tiny_model()
    scale_channel(model.net, "model.6.cv1.conv", 1, 100)
    found = diagnosed(calibrated(model, TRAIN), VAL)
    assert (findings.WEIGHT_OUTLIER, "model.6.cv1.conv") in kinds(found)
    assert "channel 1 " in found[0].text


@pytest.mark.parametrize("value", [0.0, 0.5], ids=["black", "grey"])
def test_constant_calibration_images(value: float) -> None:
    blank = [torch.full((8, 3, 64, 64), value)] * 2
    [finding] = diagnosed(calibrated(tiny_model(), blank), VAL)
    assert (finding.kind, finding.layer) == (findings.CALIBRATION, "")
    assert "constant" in finding.text


def test_dark_calibration_images() -> None:
    dark = [batch / 8 for batch in TRAIN]
    assert kinds(diagnosed(calibrated(tiny_model(), dark), VAL)) == {(findings.CALIBRATION, "")}


def test_too_few_calibration_images() -> None:
    found = diagnosed(calibrated(tiny_model(), [TRAIN[0][:3]]), VAL)
    assert (found[0].kind, found[0].advice) == (findings.FEW, 'make ptq ARGS="--images 512"')
    assert not diagnosed(calibrated(tiny_model(), TRAIN), VAL)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_or_inf_in_a_weight_is_named_with_its_layer(value: float) -> None:
    made = calibrated(tiny_model(), TRAIN)
    scale_channel(made[0].model.net, "model.6.cv1.conv", 1, value)
    assert kinds(diagnosed(made, VAL)) == {(findings.NOT_FINITE, "model.6.cv1.conv")}


def test_nan_in_a_bias_is_named_by_the_first_output() -> None:
    made = calibrated(tiny_model(), TRAIN)
    with torch.no_grad():
        made[0].model.net.get_submodule("model.6.cv1.conv").bias[1] = float("nan")  # type: ignore[index,union-attr]
    [finding] = diagnosed(made, VAL)
    assert (finding.kind, finding.layer) == (findings.NOT_FINITE, "model.6.cv1.conv")
    assert "in the float network already" in finding.text


def test_nan_in_an_input_is_named_at_the_first_layer() -> None:
    spoilt = VAL[0].clone()
    spoilt[0, 0, 5, 5] = float("nan")
    [finding] = diagnosed(calibrated(tiny_model(), TRAIN), [spoilt])
    assert (finding.kind, finding.layer) == (findings.NOT_FINITE, "model.0.conv")


def test_a_calibrator_that_clips_everywhere_is_one_finding() -> None:
    made = calibrated(tiny_model(), TRAIN)
    for layer, plan in made[0].placement.layers.items():
        if plan.quantized and plan.group == layer:
            widen(made[0], layer, 0.2)
    found = [finding for finding in diagnosed(made, VAL) if finding.kind == findings.NARROW]
    assert len(found) == 1
    assert "such ranges of" in found[0].text
    assert "--calibrator" in found[0].advice


def test_dead_channels_are_named() -> None:
    model = tiny_model()
    scale_channel(model.net, "model.6.cv1.conv", 1, 0)
    [finding] = diagnosed(calibrated(model, TRAIN), VAL)
    assert (finding.kind, finding.layer) == (findings.DEAD, "model.6.cv1.conv")


GOOD = Figures(
    errors=(LayerError("a", 0.99, 25, 0.05), LayerError("b", 0.99, 22, 0.05)),
    local={"a": LocalError("a", 40, 35, 34, 36, 0.2, 0.001)},
    weights={"a": WeightFigures(-1, 1, 0, 0.1, 0, 3.0, (), 0)},
    activations={"a": ActivationFigures(0, 6, 1, 1, 3.0, 2.0, 4.0, 0.75, 0.5)},
    ranges={"a": RangeFit(("a",), 4.0, 4.1, 35.0, 0.1)},
    calibration=CalibrationFigures(128, 1.1, 1.0),
)


@pytest.mark.parametrize(
    ("changes", "kind", "advice"),
    [
        ({}, None, ""),
        ({"calibration": None}, None, ""),
        ({"errors": (LayerError("b", 0.9, 12, 0.2),)}, findings.ACCUMULATED, "make qat"),
        (
            {"local": {"a": LocalError("a", 15, 35, 14.9, 36, 0.2, 0.001)}},
            findings.COARSE,
            "--weights-per channel",
        ),
        (
            {"local": {"a": LocalError("a", 35, 15, 14.9, 36, 0.2, 0.001)}},
            findings.COARSE,
            "--keep-float a",
        ),
        (
            {"activations": {"a": replace(GOOD.activations["a"], outliers=40.0)}},
            findings.ACTIVATION_OUTLIER,
            "--keep-float a",
        ),
        (
            {"errors": (LayerError("a", 0.9, 25, 0.2, nan=2),)},
            findings.NOT_FINITE,
            "--keep-float a",
        ),
        ({"calibration": CalibrationFigures(128, 0.3, 1.0)}, findings.CALIBRATION, "`train`"),
        ({"calibration": CalibrationFigures(128, 3.0, 1.0)}, findings.CALIBRATION, "`train`"),
        ({"calibration": CalibrationFigures(4, 0.8, 1.0)}, findings.FEW, "--images 512"),
        ({"ranges": {"a": RangeFit(("a",), 2.0, 4.0, 27.0, 9.0, 1.0, "max", 3.9)}}, None, ""),
        (
            {"ranges": {"a": RangeFit(("a",), 2.0, 4.0, 20.0, 9.0, 1.0, "max", 3.9, meant=True)}},
            None,
            "",
        ),
        (
            {"ranges": {"a": RangeFit(("a",), 2.0, 4.0, 20.0, 9.0, 1.0, "max", 3.9)}},
            findings.NARROW,
            "it fits the calibration images",
        ),
    ],
)
def test_a_rule_fires_on_its_figure_alone(
    changes: dict[str, object], kind: str | None, advice: str
) -> None:
    found = find(replace(GOOD, **changes))  # type: ignore[arg-type]
    assert [finding.kind for finding in found] == ([kind] if kind else [])
    assert all(advice in finding.advice for finding in found)


@pytest.fixture(scope="module")
def photographs(coco_mini: Path) -> tuple[list[Tensor], list[Tensor]]:
    """Four photographs to calibrate on and two to diagnose on."""
    sets = []
    for folder, count in (("calib", 4), ("dev", 2)):
        files = sorted((coco_mini / "images" / folder).glob("*.jpg"))[:count]
        batches = iterate(files, 640, 2)
        sets.append([torch.from_numpy(b.images).permute(0, 3, 1, 2).float() / 255 for b in batches])
    return sets[0], sets[1]


@pytest.mark.parametrize("fault", ["none", "range", "channel", "black"])
def test_faults_planted_in_the_official_yolov5n(
    fault: str, coco_mini: Path, photographs: tuple[list[Tensor], list[Tensor]]
) -> None:
    train, val = photographs
    model = load_model(coco_mini / "yolov5n.pt")
    if fault == "channel":
        scale_channel(model.net, "model.6.cv1.conv", 3, 100)
    if fault == "black":
        train = [torch.zeros_like(batch) for batch in train]
    made = calibrated(model, train)
    if fault == "range":
        widen(made[0], "model.8.cv1.conv", 20)
    found = kinds(diagnosed(made, val))
    planted = {
        "none": set(),
        "range": {(findings.WIDE, "model.8.cv1.conv")},
        "channel": {(findings.WEIGHT_OUTLIER, "model.6.cv1.conv")},
        "black": {(findings.CALIBRATION, "")},
    }
    if fault == "channel":  # layers that read the channel may be coarse: that is true too
        assert found - planted[fault] <= {item for item in found if item[0] == findings.COARSE}
        found &= planted[fault]
    assert found == planted[fault]


def test_the_tiny_calibrated_model_of_other_tests_is_healthy_too() -> None:
    found = diagnosed((tiny_quantized(), {}), VAL)
    assert kinds(found) == set()
