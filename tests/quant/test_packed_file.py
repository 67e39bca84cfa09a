"""A packed model comes back bit for bit, and is as small as its bits."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_quant import as_input, pictures, tiny_quantized

from yoloq.base.errors import CheckpointError, PolicyError
from yoloq.quant.affine import quantize
from yoloq.quant.calibrate import get_ranges
from yoloq.quant.modules import QuantConv2d
from yoloq.quant.packed_file import load_packed, packed_size, save_packed
from yoloq.quant.policy import Policy, Rule
from yoloq.quant.quantized import QuantizedModel
from yoloq.quant.spec import ACTIVATION, WEIGHT, PerGroup, PerTensor, QuantSpec

pytestmark = pytest.mark.usefixtures("one_thread")

W4 = replace(WEIGHT, bits=4)
MIXED = Policy(
    (
        Rule("*", W4, QuantSpec(symmetric=False)),
        Rule("model.1", replace(WEIGHT, bits=3), ACTIVATION),
        Rule("model.2", replace(W4, granularity=PerTensor()), ACTIVATION),
        Rule("model.3", replace(W4, granularity=PerGroup(3)), ACTIVATION),
        Rule("model.4", WEIGHT, ACTIVATION),
        Rule("model.5", None, ACTIVATION),
        Rule("model.24", None, None),
    ),
    residual="both",
)


def integers(quantized: QuantizedModel) -> dict[str, list[int]]:
    found = {}
    for name, conv in quantized.model.net.named_modules():
        if isinstance(conv, QuantConv2d) and (side := conv.weight_quantizer) and name:
            if isinstance(side, torch.nn.Identity):
                continue
            whole = quantize(conv.weight.detach(), side.scale, side.zero_point, side.spec)
            found[name] = whole.flatten().tolist()
    return found


def scales(quantized: QuantizedModel) -> dict[str, bytes]:
    return {
        name: module.scale.numpy().tobytes() + module.zero_point.numpy().tobytes()
        for name, module in quantized.model.net.named_modules()
        if name.endswith("_quantizer") and not isinstance(module, torch.nn.Identity)
    }


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> tuple[QuantizedModel, Path]:
    quantized = tiny_quantized(policy=MIXED)
    file = tmp_path_factory.mktemp("packed") / "model-packed.npz"
    save_packed(file, quantized)
    return quantized, file


def test_integers_scales_and_ranges_come_back_bit_for_bit(
    mixed: tuple[QuantizedModel, Path],
) -> None:
    quantized, file = mixed
    loaded = load_packed(file)
    assert integers(loaded) == integers(quantized)
    assert scales(loaded) == scales(quantized)
    inputs = [name for name in get_ranges(quantized.model.net) if "weight" not in name]
    for name in inputs:
        assert torch.equal(
            get_ranges(loaded.model.net)[name], get_ranges(quantized.model.net)[name]
        )
    assert loaded.policy == quantized.policy and loaded.outputs == quantized.outputs
    assert loaded.model.names == quantized.model.names
    assert loaded.model.head == quantized.model.head


def test_other_weights_come_back_in_fp16_and_biases_as_they_were(
    mixed: tuple[QuantizedModel, Path],
) -> None:
    quantized, file = mixed
    ours, theirs = quantized.model.net.state_dict(), load_packed(file).model.net.state_dict()
    assert torch.equal(theirs["model.24.m.0.weight"], ours["model.24.m.0.weight"].half().float())
    assert not torch.equal(theirs["model.24.m.0.weight"], ours["model.24.m.0.weight"])
    biases = [name for name in ours if name.endswith("bias")]
    assert len(biases) > 50 and all(torch.equal(ours[name], theirs[name]) for name in biases)


def test_a_network_in_integers_computes_the_same(tmp_path: Path) -> None:
    quantized = tiny_quantized(policy=Policy((Rule("*", W4, ACTIVATION),)))
    save_packed(tmp_path / "x.npz", quantized)
    images = as_input(pictures(2))
    with torch.inference_mode():
        ours, theirs = (q.model.net(images) for q in (quantized, load_packed(tmp_path / "x.npz")))
    assert all(map(torch.equal, ours, theirs))


def test_a_file_is_as_small_as_its_bits(tmp_path: Path) -> None:
    sizes = {}
    for bits in (2, 4, 8):
        rule = Rule("*", replace(WEIGHT, bits=bits), ACTIVATION)
        quantized = tiny_quantized(policy=Policy((rule,)))
        sizes[bits] = packed_size(quantized)
        save_packed(tmp_path / "x.npz", quantized)
        assert (tmp_path / "x.npz").stat().st_size == sizes[bits]
    weights = sum(len(values) for values in integers(quantized).values())
    assert sizes[8] - sizes[4] == pytest.approx(weights / 2, abs=100)
    assert sizes[4] - sizes[2] == pytest.approx(weights / 4, abs=100)
    channels = sum(
        conv.out_channels for conv in quantized.model.net.modules() if isinstance(conv, QuantConv2d)
    )
    assert sizes[4] < weights / 2 + 8 * channels + 8_000  # scales and biases; names and shapes


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-200])


def short(file: Path) -> None:
    with np.load(file) as data:
        arrays = dict(data)
    np.savez(file, **arrays | {"integers": arrays["integers"][:-9]})


def other(file: Path) -> None:
    np.savez(file, a=np.zeros(3))


def text(file: Path) -> None:
    file.write_text("no numbers")


@pytest.mark.parametrize("harm", [cut, short, other, text, Path.unlink])
def test_a_damaged_file_is_named(
    harm: Callable[[Path], None], mixed: tuple[QuantizedModel, Path], tmp_path: Path
) -> None:
    file = tmp_path / "model-packed.npz"
    file.write_bytes(mixed[1].read_bytes())
    harm(file)
    with pytest.raises(CheckpointError) as caught:
        load_packed(file)
    assert str(caught.value).startswith(f"{file}: ") and "\n" not in str(caught.value)


def test_a_weight_beyond_fp16_is_named() -> None:
    quantized = tiny_quantized(policy=MIXED)
    quantized.model.net.get_parameter("model.24.m.0.weight").data[0] = 1e6
    with pytest.raises(PolicyError, match=r"^model.24.m.0.weight: is beyond FP16"):
        packed_size(quantized)
