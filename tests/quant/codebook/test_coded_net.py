"""A network by codebooks: what it gives, and its file."""

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_quant import as_input, pictures, signal_to_noise, tiny_model

from yoloq.base.errors import CheckpointError
from yoloq.models.load import LoadedModel, save_model
from yoloq.quant.bit_rows import pack
from yoloq.quant.codebook import BookSpec
from yoloq.quant.codebook.coded import Coded
from yoloq.quant.codebook.coded_net import code_network
from yoloq.quant.codebook.codes_file import load_codes, numbers_of, save_codes
from yoloq.quant.policy import block_of
from yoloq.quant.refine import patches
from yoloq.quant.trace import conv_inputs, trace

pytestmark = pytest.mark.usefixtures("one_thread")

KINDS = [BookSpec(3, "channel"), BookSpec(3, "layer"), BookSpec(3, "layer", 2)]
IDS = ["per channel", "per layer", "pairs"]


BLOCKS = ("model.0", "model.2", "model.3")  # of all: a test takes seconds


@functools.cache
def coded(
    spec: BookSpec, images: int = 8, seed: int = 0, most: int = 0
) -> tuple[LoadedModel, dict[str, Coded]]:
    """A tiny model with some blocks coded; `most` columns are fitted together."""
    model = tiny_model()
    names = [name for name in conv_inputs(trace(model.net)) if block_of(name) in BLOCKS]
    batches = as_input(pictures(images)).split(4) if images else ()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(patches, "MOST", most or patches.MOST)
        return code_network(model, dict.fromkeys(names, spec), batches, seed)


def quality(model: LoadedModel) -> float:
    """Decibels of the raw maps, on images that the tables were not fitted to."""
    images = as_input(pictures(6, seed=5))
    with torch.inference_mode():
        wanted, made = (
            [raw.numpy() for raw in net(images)] for net in (tiny_model().net, model.net)
        )
    return signal_to_noise(wanted, made)


@pytest.mark.parametrize("spec", KINDS, ids=IDS)
def test_weights_are_entries_of_their_tables_and_nothing_else_changed(spec: BookSpec) -> None:
    model, codes = coded(spec)
    before = tiny_model().net.state_dict()
    for name, tensor in model.net.state_dict().items():
        layer, _, kind = name.rpartition(".")
        if kind == "weight" and layer in codes:
            assert torch.equal(tensor, codes[layer].weight), name
            table = codes[layer].tables
            assert table.shape[1:] == (2 ** (3 * spec.dim), spec.dim)
            assert len(tensor.unique()) <= table.numel()
        else:
            assert torch.equal(tensor, before[name]), name
    assert not any(type(module).__name__ == "QuantConv2d" for module in model.net.modules())


@pytest.mark.parametrize("spec", KINDS, ids=IDS)
def test_images_make_the_output_better_than_the_weights_alone(spec: BookSpec) -> None:
    assert quality(coded(spec)[0]) > quality(coded(spec, images=0)[0]) + 1


def test_more_bits_are_better() -> None:
    found = [quality(coded(BookSpec(bits, "layer"))[0]) for bits in (2, 4, 6)]
    assert found[0] + 6 < found[1] < found[2] - 6, "2 bits are 12 dB at best"


@pytest.mark.parametrize("spec", KINDS, ids=IDS)
def test_wide_convolutions_are_done_in_parts(spec: BookSpec) -> None:
    assert quality(coded(spec, most=20)[0]) > quality(coded(spec, images=0)[0])


def test_depthwise_convolutions(tmp_path: Path) -> None:
    """Nine weights a channel: the last of two entries of eight has seven too many."""
    model = tiny_model("yolo11n")
    names = [n for n, m in model.net.named_modules() if getattr(m, "groups", 1) > 1][:2]
    specs = {names[0]: BookSpec(1, "layer", 8), names[1]: BookSpec(4, "channel")}
    model, codes = code_network(model, specs, [as_input(pictures(2))], 0)
    assert [code.numbers.shape[1] for code in codes.values()] == [2, 9]
    save_codes(tmp_path / "codes.npz", model, codes)
    assert same(load_codes(tmp_path / "codes.npz"), model)


def same(one: LoadedModel, other: LoadedModel) -> bool:
    ours, theirs = one.net.state_dict(), other.net.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[n], theirs[n]) for n in ours)


def test_the_same_seed_gives_the_same_codes() -> None:
    spec = BookSpec(3, "layer", 2)
    again = coded.__wrapped__(spec)[0]
    assert same(coded(spec)[0], again)
    assert not same(coded(spec, seed=1)[0], again)


@pytest.mark.parametrize("spec", KINDS, ids=IDS)
def test_a_file_is_small_and_comes_back_to_the_last_bit(spec: BookSpec, tmp_path: Path) -> None:
    model, codes = coded(spec)
    file = tmp_path / "codes.npz"
    save_codes(file, model, codes)
    found = load_codes(file)
    assert same(found, model)
    assert (found.names, found.fused, found.family) == (model.names, True, "yolov5")
    assert found.head.to_json() == model.head.to_json() and len(found.sha256) == 64
    with np.load(file) as data:
        for name, code in codes.items():
            assert data[f"numbers/{name}"].nbytes == -(-code.numbers.numel() * 3 * spec.dim // 8)
            assert data[f"tables/{name}"].nbytes == code.tables.numel() * 2


@pytest.mark.parametrize("bits", range(1, 9))
def test_numbers_are_packed_without_a_gap(bits: int) -> None:
    numbers = np.arange(33).reshape(3, 11) * 7 % 2**bits
    stored = pack(numbers, bits)
    assert stored.dtype == np.uint8 and len(stored) == -(-33 * bits // 8)
    tables = torch.zeros(1, 2**bits, 1)
    assert torch.equal(numbers_of(stored, tables, torch.Size([3, 11])), torch.from_numpy(numbers))


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-200])


def without(file: Path) -> None:
    with np.load(file) as data:
        arrays = {name: data[name] for name in data.files if "numbers/model.3" not in name}
    np.savez(file, **arrays)


def shorter(file: Path) -> None:
    with np.load(file) as data:
        arrays = {name: data[name] for name in data.files}
    arrays["numbers/model.3.conv"] = arrays["numbers/model.3.conv"][:5]
    np.savez(file, **arrays)


def another(file: Path) -> None:
    file.unlink()
    save_model(file, tiny_model())


@pytest.mark.parametrize("harm", [cut, without, shorter, another])
def test_a_damaged_file_is_named(harm: Callable[[Path], None], tmp_path: Path) -> None:
    file = tmp_path / "codes.npz"
    save_codes(file, *coded(BookSpec(2, "layer"), images=0))
    harm(file)
    with pytest.raises(CheckpointError, match=r"codes.npz: .*make codebook") as caught:
        load_codes(file)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"none.npz: No such file"):
        load_codes(tmp_path / "none.npz")
