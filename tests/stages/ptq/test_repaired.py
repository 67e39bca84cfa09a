"""`--refine` on a run folder: what it leaves, how it goes on, what it refuses."""

from pathlib import Path

import pytest
import torch
from tiny_set import TinySet

from yoloq.__main__ import main
from yoloq.quant.quantized import load_quantized
from yoloq.quant.refine import gptq
from yoloq.quant.refine.walk import Block

pytestmark = pytest.mark.usefixtures("one_thread")

FLAGS = ("--images", "4", "--weight-bits", "4", "--refine")


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(load_quantized(folder / "run" / "ptq.pt").model.net.state_dict())


def test_an_interrupted_repair_goes_on_and_ends_alike(
    tiny: TinySet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    flags = (*FLAGS, "gptq", "bias")
    assert main("ptq", tiny.flags(tmp_path / "whole", *flags)) == 0
    repair, seen = gptq.repair, []

    def stopped(block: Block, steps: int) -> None:
        seen.append(block.name)
        if len(seen) == 3:
            raise KeyboardInterrupt
        repair(block, steps)

    monkeypatch.setattr(gptq, "repair", stopped)
    assert main("ptq", tiny.flags(tmp_path / "cut", *flags)) == 130
    assert not (tmp_path / "cut" / "run" / "ptq.pt").exists()
    capsys.readouterr()
    assert main("ptq", tiny.flags(tmp_path / "cut", *flags)) == 0
    assert "goes on from" in "".join(capsys.readouterr())
    assert len(seen) == len(set(seen)) + 1  # only the block that was cut is repaired again
    ours, theirs = weights(tmp_path / "cut"), weights(tmp_path / "whole")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert not (tmp_path / "cut" / "run" / "refined.npz").exists()


def test_plain_weights_are_those_of_the_checkpoint_and_refined_ones_are_not(
    tiny: TinySet, tmp_path: Path
) -> None:
    assert main("ptq", tiny.flags(tmp_path, *FLAGS, "none")) == 0
    plain = weights(tmp_path)
    assert main("ptq", tiny.flags(tmp_path, *FLAGS, "gptq")) == 0
    assert any(not torch.equal(tensor, plain[name]) for name, tensor in weights(tmp_path).items())


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--refine", "smoth"), "--refine smoth: 'smoth' is not one of none, equalize"),
        (("--refine", "smooth"), "through silu behind model.0.conv"),
        (("--refine", "block", "--images", "4"), "--refine block: needs 8 calibration images"),
        (("--refine", "bias", "--refine-images", "0"), "--refine-images 0: must be 1 or more"),
        (("--activation-bits", "9"), "--activation-bits"),
        (("--edge-bits", "1"), "--edge-bits 1: must be 2 to 8"),
    ],
)
def test_a_mistake_is_one_line(
    flags: tuple, said: str, tiny: TinySet, tmp_path: Path, capsys
) -> None:
    assert main("ptq", tiny.flags(tmp_path, *flags)) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert said in error
    assert not (tmp_path / "run" / "ptq.pt").exists()


def test_edges_have_their_own_bits(tiny: TinySet, tmp_path: Path) -> None:
    few = ("--images", "2", "--weight-bits", "4", "--activation-bits", "5", "--no-float-head")
    assert main("ptq", tiny.flags(tmp_path, *few, "--float-first", "0")) == 0
    layers = load_quantized(tmp_path / "run" / "ptq.pt").placement.layers
    edges = ("model.0.", "model.24.")
    for name, plan in layers.items():
        wanted = (8, 8) if name.startswith(edges) else (4, 5)
        assert (plan.weight.bits, plan.activation.bits) == wanted, name
