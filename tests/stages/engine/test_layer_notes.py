"""What an engine run notes of its layers for the report."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from engine_source import source

from yoloq.engines.base import Engine, NodeTime
from yoloq.stages.engine import EngineConfig
from yoloq.stages.engine.build import make_variants
from yoloq.stages.engine.layer_notes import layer_notes
from yoloq.stages.engine.layers import Profiles

pytestmark = pytest.mark.usefixtures("one_thread")

PRECISIONS = ("fp32", "fp16", "int8")


def fake_engine(**fields: Any) -> Engine:
    """An engine of which nothing is built or loaded."""

    def unwanted(*_: Any) -> Any:
        raise AssertionError("its files are there already")

    return Engine("fake", lambda device: PRECISIONS, unwanted, unwanted, **fields)


def noted(engine: Engine, *precisions: str) -> dict[str, Any]:
    variants = make_variants(precisions, {"ptq": source("yolov5")})
    files = {variant.key: Path(variant.key) for variant in variants}
    predictors: dict[str, Any] = dict.fromkeys(precisions, SimpleNamespace(float_type="fp16"))
    config = EngineConfig(device="cpu", threads=1, runs=7)
    return layer_notes(engine, variants, predictors, Profiles(engine, files, config))


def profile(file: Path, precision: str, device: str, threads: int, runs: int) -> list[NodeTime]:
    """model.3 takes 0.25 ms in int8 and 1 ms in anything else; model.5 falls back to float."""
    assert (file.name, device, threads, runs) == (precision, "cpu", 1, 7)
    int8 = precision == "int8"
    return [
        NodeTime("Convolution", precision, ("/net/model.3/conv/Conv",), 0.25 if int8 else 1.0),
        NodeTime("Convolution", "fp16", ("/net/model.5/conv/Conv",), 0.5),
    ]


def test_types_and_times_come_from_the_profile() -> None:
    notes = noted(fake_engine(profile=profile), *PRECISIONS)
    assert list(notes) == ["int8"] and notes["int8"]["float"] == "fp16"
    layers = {item["layer"]: item for item in notes["int8"]["layers"]}
    placement = source("yolov5").quantized.placement
    assert list(layers) == list(placement.layers)
    third, fifth, head = (layers[n] for n in ("model.3.conv", "model.5.conv", "model.24.m.0"))
    assert (third["type"], third["ms"], third["float_ms"]) == ("int8", 0.25, 1.0)
    assert (fifth["type"], fifth["ms"], fifth["float_ms"]) == ("fp16", 0.5, 0.5)
    assert (head["type"], head["scale"]) == ("fp16", None) and third["scale"] > 0


def test_without_a_profile_there_are_plans_and_no_times() -> None:
    layers = {item["layer"]: item for item in noted(fake_engine(), *PRECISIONS)["int8"]["layers"]}
    assert layers["model.3.conv"]["type"] == "int8" and layers["model.24.m.0"]["type"] == "fp16"
    assert {(item["ms"], item["float_ms"]) for item in layers.values()} == {(None, None)}


@pytest.mark.parametrize(
    ("engine", "precisions"),
    [
        pytest.param({}, ("fp32", "fp16"), id="no int8"),
        pytest.param({"simulated": True}, PRECISIONS, id="simulated"),
    ],
)
def test_nothing_is_noted_of_what_is_no_int8_engine(
    engine: dict[str, Any], precisions: tuple[str, ...]
) -> None:
    assert noted(fake_engine(**engine), *precisions) == {}


def test_int8_alone_has_nothing_to_compare_with() -> None:
    notes = noted(fake_engine(profile=profile), "int8")["int8"]
    assert notes["float"] is None and notes["layers"][0]["float_ms"] is None
