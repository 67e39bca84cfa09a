"""`--layers auto`: what a block's swap loses and saves, and which blocks that comes to."""

import json
from pathlib import Path

import pytest
import torch
from tiny_quant import as_input, pictures, tiny_model
from tiny_set import TinySet

from yoloq.__main__ import main
from yoloq.measure.layer_times import LayerTimes
from yoloq.measure.places import PlaceError
from yoloq.models.swap import silu_layers, swapped
from yoloq.quant.policy import block_of
from yoloq.stages.swap import gain
from yoloq.stages.swap import stage as swap
from yoloq.stages.swap.gain import BlockGain, block_losses, cheapest, rendered

pytestmark = pytest.mark.usefixtures("one_thread")


def block(name: str, loss: float, saved: float) -> BlockGain:
    return BlockGain(name, loss, silu_ms=1.0, swapped_ms=1.0 - saved)


A, B, C = block("a", 0.4, 0.2), block("b", 0.1, 0.5), block("c", 0.9, 0.3)  # 2, 0.2, 3 per ms
SLOWER = block("d", 0.0, -0.1)


@pytest.mark.parametrize(
    ("blocks", "share", "names"),
    [
        pytest.param([A, B, C], 0.5, ["b"], id="the first saves just enough"),
        pytest.param([A, B, C], 0.51, ["b", "a"], id="least loss per millisecond first"),
        pytest.param([A, B, C, SLOWER], 1.0, ["b", "a", "c"], id="never one that gets slower"),
        pytest.param([SLOWER], 1.0, [], id="none gets faster"),
        pytest.param([], 0.5, [], id="no block"),
        pytest.param([block("e", 0.0, 0.1), B], 0.1, ["e"], id="nothing lost"),
    ],
)
def test_cheapest(blocks: list[BlockGain], share: float, names: list[str]) -> None:
    assert cheapest(blocks, share) == names


def test_table() -> None:
    assert rendered([C, SLOWER, B])[1:] == [
        ["b", "0.10000", "1.000", "0.500", "0.500", "0.2000", "no"],
        ["c", "0.90000", "1.000", "0.700", "0.300", "3.0000", "no"],
        ["d", "0.00000", "1.000", "1.100", "-0.100", "-", "no"],
    ]


@pytest.mark.parametrize("family", ["yolov5", "ultralytics"])
def test_loss_of_a_block_is_that_of_a_network_with_it_alone_swapped(family: str) -> None:
    model, x = tiny_model(family), as_input(pictures(3))
    for module in model.net.get_submodule("model")[-1].modules():
        if isinstance(module, torch.nn.Conv2d):
            module.bias.data += 1.0  # so that there are boxes
    names = silu_layers(model.net)
    blocks = list(dict.fromkeys(map(block_of, names)))
    other = swapped(model, names, "relu")
    found = block_losses(model, other, blocks, [x[:2], x[2:]])
    assert list(found) == blocks
    for name in (blocks[0], blocks[3], blocks[-1]):
        alone = swapped(model, [n for n in names if block_of(n) == name], "relu")
        errors = PlaceError(model.head)
        with torch.no_grad():
            for part in (x[:2], x[2:]):
                nets = (model.net, alone.net)
                errors.add(*([raw.numpy() for raw in net(part)] for net in nets))
        assert errors.power > 0
        assert found[name] == pytest.approx(errors.power, rel=1e-3)


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Profiles by hand: model.3 saves a millisecond, model.6 a half, all others cost one."""
    calls: list[int] = []

    def profiles(inputs, other, config, engine):
        calls.append(1)
        layers = {op.name: 2.0 for op in inputs.ops if op.kind == "conv"}
        faster = layers | dict.fromkeys(layers, 3.0)
        faster |= {"model.3.conv": 1.0}
        six = [name for name in layers if block_of(name) == "model.6"]
        faster |= dict.fromkeys(six, 2.0) | {six[0]: 1.5}
        return LayerTimes(layers, {}, 0.0), LayerTimes(faster, {}, 0.0)

    monkeypatch.setattr(gain, "profiles", profiles)
    monkeypatch.setattr(swap, "draw_curves", lambda file, *more: file.write_bytes(b""))
    return calls


def test_layers_by_gain(tiny: TinySet, tmp_path: Path, timed, monkeypatch, capsys) -> None:
    """The choice is shown, kept in the result, and stays that of a run that was interrupted."""
    flags = tiny.flags(tmp_path, "--layers", "auto", "--share", "1", "--epochs", "1")
    flags += ["--batch-size", "3", "--runs", "1", "--screen", "3", "--engine", "onnxruntime"]

    def stops(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(swap, "epoch_batches", stops)
        assert main("swap", flags) == 130
    assert "Loss per ms" in capsys.readouterr().out
    assert main("swap", flags) == 0
    assert "the layers were chosen before" in capsys.readouterr().err
    assert len(timed) == 1
    notes = json.loads((tmp_path / "run" / "swap.json").read_text())["notes"]
    assert {block_of(name) for name in notes["layers"]} == {"model.3", "model.6"}
    chosen = [item["name"] for item in notes["blocks"] if item["chosen"]]
    assert chosen == ["model.3", "model.6"]


def test_no_block_gets_faster(tiny: TinySet, tmp_path: Path, timed, monkeypatch, capsys) -> None:
    same = LayerTimes({}, {}, 0.0)
    monkeypatch.setattr(gain, "profiles", lambda *_: (same, same))
    flags = tiny.flags(tmp_path, "--layers", "auto", "--engine", "openvino")
    assert main("swap", flags) == 2
    assert "no block gets faster with hardswish in openvino" in capsys.readouterr().err
