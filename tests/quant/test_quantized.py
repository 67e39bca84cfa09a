"""A calibrated model on disk: weights, policy and ranges, and nothing pickled."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_quant import as_input, pictures, tiny_model, tiny_quantized

from yoloq.base.errors import CheckpointError, PolicyError
from yoloq.models.load import save_model
from yoloq.quant.calibrate import get_ranges
from yoloq.quant.modules import quantizers, switched
from yoloq.quant.policy import Policy, Rule
from yoloq.quant.quantized import load_quantized, quantize_model, save_quantized
from yoloq.quant.spec import ACTIVATION, WEIGHT, PerTensor, QuantSpec

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="default"),
        pytest.param({"family": "ultralytics", "residual": "both"}, id="ultralytics"),
        pytest.param({"activation": QuantSpec(symmetric=False)}, id="asymmetric"),
        pytest.param({"weight": replace(WEIGHT, granularity=PerTensor())}, id="per tensor"),
        pytest.param({"sharing": "concat", "float_first": 0, "float_head": False}, id="all"),
    ],
)
def test_round_trip_gives_the_same_network(tmp_path: Path, options: dict) -> None:
    quantized = tiny_quantized(**options)
    save_quantized(tmp_path / "q.pt", quantized, note="kept")
    found = load_quantized(tmp_path / "q.pt")
    image = as_input(pictures(1))
    with torch.inference_mode():
        raws = zip(found.model.net(image), quantized.model.net(image), strict=True)
        assert all(torch.equal(a, b) for a, b in raws)
    assert found.policy == quantized.policy
    assert found.placement == quantized.placement
    assert found.outputs == quantized.outputs
    assert found.model.extra == {"note": "kept"}


def test_file_is_read_without_pickle(tmp_path: Path) -> None:
    save_quantized(tmp_path / "q.pt", tiny_quantized())
    content = torch.load(tmp_path / "q.pt", weights_only=True)
    assert content["state_dict"].keys() == tiny_model().net.state_dict().keys()


def test_uncalibrated_model_is_not_written(tmp_path: Path) -> None:
    quantized = quantize_model(tiny_model(), Policy((Rule("*", WEIGHT, ACTIVATION),)))
    with pytest.raises(RuntimeError, match="not calibrated"):
        save_quantized(tmp_path / "q.pt", quantized)
    assert not list(tmp_path.iterdir())


def test_float_model_is_refused(tmp_path: Path) -> None:
    save_model(tmp_path / "f.pt", tiny_model())
    with pytest.raises(CheckpointError, match=r"f\.pt: holds no quantized model.*make ptq"):
        load_quantized(tmp_path / "f.pt")


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda q: q.pop("ranges"), id="no ranges"),
        pytest.param(lambda q: q["ranges"].popitem(), id="a range is missing"),
        pytest.param(lambda q: q["policy"]["rules"].pop(0), id="another policy"),
        pytest.param(lambda q: q["policy"]["rules"][1].update(pattern="x"), id="unknown pattern"),
        pytest.param(lambda q: q.update(outputs=3), id="no outputs"),
    ],
)
def test_damaged_file_is_named(tmp_path: Path, damage) -> None:
    quantized = tiny_quantized()
    ranges = {name: pair.tolist() for name, pair in get_ranges(quantized.model.net).items()}
    saved = {"policy": quantized.policy.to_json(), "ranges": ranges, "outputs": quantized.outputs}
    saved["policy"]["rules"] = list(saved["policy"]["rules"])
    damage(saved)
    save_model(tmp_path / "q.pt", quantized.model, quantization=saved)
    with pytest.raises(CheckpointError, match=r"q\.pt: its policy or ranges are damaged") as caught:
        load_quantized(tmp_path / "q.pt")
    assert "\n" not in str(caught.value)


def test_unknown_pattern_leaves_the_model_alone() -> None:
    model = tiny_model()
    with pytest.raises(PolicyError):
        quantize_model(model, Policy((Rule("model.99", WEIGHT, ACTIVATION),)))
    assert not quantizers(model.net)


def test_off_is_bit_identical_to_float() -> None:
    net = tiny_quantized().model.net
    image = as_input(pictures(1))
    with torch.inference_mode(), switched(quantizers(net).values(), enabled=False):
        assert all(map(torch.equal, net(image), tiny_model().net(image)))
