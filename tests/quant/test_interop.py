"""Amax state dicts of pytorch-quantization and ModelOpt: names, shapes, agreement, files."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from tiny_quant import as_input, pictures, tiny_quantized

from yoloq.base.errors import CheckpointError, PolicyError
from yoloq.quant.calibrate import get_ranges
from yoloq.quant.interop import STYLES, load_state_dict, read_amax, to_state_dict, write_amax
from yoloq.quant.spec import WEIGHT, QuantSpec, granularity_of

pytestmark = pytest.mark.usefixtures("one_thread")

INPUT = "model.2.cv1.conv._input_quantizer._amax"
SIBLING = "model.2.cv2.conv._input_quantizer._amax"
WEIGHTS = "model.2.cv1.conv._weight_quantizer._amax"


@pytest.fixture(scope="module")
def net():
    return tiny_quantized(calibrator="mse").model.net


@pytest.fixture(scope="module")
def tensors(net):
    return to_state_dict(net)


@pytest.fixture
def other():
    """The same policy with other ranges."""
    return tiny_quantized(calibrator="max").model.net


@pytest.mark.parametrize(
    ("style", "of_input", "of_weight"),
    [
        ("pytorch-quantization", "_input_quantizer._amax", "_weight_quantizer._amax"),
        ("modelopt", "input_quantizer._amax", "weight_quantizer._amax"),
    ],
)
def test_names_shapes_and_values(net, style: str, of_input: str, of_weight: str) -> None:
    found = to_state_dict(net, style)
    assert len(found) == 2 * 55, "both sides of each quantized convolution"
    amax = found[f"model.2.cv1.conv.{of_weight}"]
    weight = net.get_parameter("model.2.cv1.conv.weight").detach().numpy()
    assert amax.shape == (8, 1, 1, 1)
    np.testing.assert_array_equal(amax.flatten(), np.abs(weight).max((1, 2, 3)))
    assert found[f"model.2.cv1.conv.{of_input}"].shape == ()
    one, two = (found[f"model.2.cv{i}.conv.{of_input}"] for i in (1, 2))
    assert torch.equal(one, two), "a shared quantizer under each convolution"


@pytest.mark.parametrize("style", STYLES)
def test_round_trip_gives_the_same_network(net, other, style: str) -> None:
    image = as_input(pictures(1))
    load_state_dict(other, to_state_dict(net, style))
    with torch.inference_mode():
        for found, wanted in zip(other(image), net(image), strict=True):
            assert torch.equal(found, wanted)


@pytest.mark.parametrize("granularity", ["tensor", "group"])
def test_other_granularities_go_round(granularity: str) -> None:
    weight = replace(WEIGHT, granularity=granularity_of(granularity, 4))
    source, target = (
        tiny_quantized(weight=weight, calibrator=name).model.net for name in ("mse", "max")
    )
    load_state_dict(target, to_state_dict(source, "modelopt"))
    found = target.get_submodule("model.3.conv")
    wanted = source.get_submodule("model.3.conv")
    assert torch.equal(found.weight_quantizer.scale, wanted.weight_quantizer.scale)
    assert torch.equal(found.input_quantizer.scale, wanted.input_quantizer.scale)


def test_flat_vectors_and_other_tensors_are_taken(other, tensors) -> None:
    flat = {name: amax.reshape(-1) for name, amax in tensors.items()}
    load_state_dict(other, flat | {"model.2.cv1.conv.weight": torch.zeros(3)})
    quantizer = other.get_submodule("model.2.cv1.conv").weight_quantizer
    assert torch.equal(quantizer.amax, tensors[WEIGHTS].flatten())


def without(tensors: dict, name: str) -> dict:
    return {key: value for key, value in tensors.items() if key != name}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(
            lambda t: t | {"model.24.m.0._input_quantizer._amax": torch.tensor(1.0)},
            r"1 amax values are unknown to .*: model\.24\.m\.0\._input_quantizer",
            id="unknown",
        ),
        pytest.param(
            lambda t: without(t, WEIGHTS),
            r"missing for .*: model\.2\.cv1\.conv\._weight",
            id="gone",
        ),
        pytest.param(
            lambda t: t | {SIBLING: t[INPUT] * 2}, r"cv1.* and .*cv2.* share", id="siblings differ"
        ),
        pytest.param(
            lambda t: t | {WEIGHTS: torch.tensor(1.0)}, r"cv1.*shape \(\).*8 output", id="scalar"
        ),
        pytest.param(
            lambda t: t | {INPUT: torch.ones(8, 1, 1, 1)}, r"cv1.*\(8, 1, 1, 1\)", id="vector"
        ),
        pytest.param(lambda t: t | {INPUT: torch.tensor(float("nan"))}, r"cv1.*NaN amax", id="NaN"),
        pytest.param(lambda t: t | {INPUT: torch.tensor(-1.0)}, r"cv1.*negative", id="negative"),
        pytest.param(lambda t: {}, "holds no amax", id="empty"),
        pytest.param(lambda t: {"model.0.conv.weight": torch.ones(1)}, "holds no amax", id="float"),
        pytest.param(
            lambda t: without(t, INPUT) | {INPUT.replace("._", ".", 1): t[INPUT]},
            r"unknown to .*: model\.2\.cv1\.conv\.input_quantizer\._amax",
            id="mixed styles",
        ),
    ],
)
def test_what_does_not_fit_is_named_and_changes_nothing(other, tensors, change, message) -> None:
    before = get_ranges(other)
    with pytest.raises(PolicyError, match=message) as caught:
        load_state_dict(other, change(tensors))
    assert "\n" not in str(caught.value)
    assert all(torch.equal(pair, before[name]) for name, pair in get_ranges(other).items())


def test_asymmetric_ranges_are_refused() -> None:
    asymmetric = tiny_quantized(activation=QuantSpec(symmetric=False)).model.net
    with pytest.raises(PolicyError, match=r"_input_quantizer\._amax: an asymmetric range"):
        to_state_dict(asymmetric)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_files(other, net, tensors, tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"amax{suffix}"
    write_amax(file, tensors)
    found = read_amax(file)
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)
    load_state_dict(other, found)
    assert [item.name for item in tmp_path.iterdir()] == [file.name]


def test_safetensors_file_is_readable_by_others(tensors, tmp_path: Path) -> None:
    write_amax(tmp_path / "a.safetensors", tensors)
    np.testing.assert_array_equal(load_file(tmp_path / "a.safetensors")[WEIGHTS], tensors[WEIGHTS])


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict"])
def test_state_dict_inside_a_checkpoint(tensors, tmp_path: Path, key: str) -> None:
    torch.save({key: tensors, "epoch": 3}, tmp_path / "a.pt")
    assert read_amax(tmp_path / "a.pt").keys() == tensors.keys()


class Command:
    def __reduce__(self):
        return (Path.touch, (Path("ran"),))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        pytest.param("a.pt", None, id="missing"),
        pytest.param("a.safetensors", None, id="missing safetensors"),
        pytest.param("a.pt", b"", id="empty"),
        pytest.param("a.pt", b"no tensors", id="text"),
        pytest.param("a.safetensors", b"no tensors", id="text as safetensors"),
        pytest.param("a.pt", [1, 2], id="a list"),
        pytest.param("a.pt", {"x": Command()}, id="code"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, monkeypatch, name: str, content) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / name
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content is not None:
        torch.save(content, file)
    with pytest.raises(CheckpointError, match=name) as caught:
        read_amax(file)
    assert "\n" not in str(caught.value)
    assert not Path("ran").exists()
