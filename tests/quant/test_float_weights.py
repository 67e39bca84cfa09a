"""Files that are given as weights: a codebook is read like a checkpoint, a packed file refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_quant import tiny_model, tiny_quantized

import yoloq
from yoloq.base.errors import CheckpointError
from yoloq.models.load import load_model, save_model
from yoloq.quant.codebook import BookSpec
from yoloq.quant.codebook.coded_net import code_network
from yoloq.quant.codebook.codes_file import save_codes
from yoloq.quant.float_weights import load_weights
from yoloq.quant.packed_file import save_packed

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_codebook_file_gives_the_model_that_was_coded(tmp_path: Path) -> None:
    spec = {"model.3.conv": BookSpec(4, "layer")}
    model, codes = code_network(tiny_model(), spec, [], seed=0)
    save_codes(tmp_path / "codebook.npz", model, codes)
    wanted = model.net.state_dict()
    for found in (load_weights(tmp_path / "codebook.npz"), yoloq.load(tmp_path / "codebook.npz")):
        state = found.net.state_dict()
        assert state.keys() == wanted.keys()
        assert all(torch.equal(state[name], wanted[name]) for name in wanted)


def test_a_checkpoint_is_read_as_ever(tmp_path: Path) -> None:
    save_model(tmp_path / "some.pt", tiny_model())
    assert load_weights(tmp_path / "some.pt").sha256 == load_model(tmp_path / "some.pt").sha256


def test_a_packed_file_is_refused_with_the_remedy(tmp_path: Path) -> None:
    save_packed(tmp_path / "model-packed.npz", tiny_quantized())
    with pytest.raises(CheckpointError, match=r"packed\.npz: holds the packed integers .* give"):
        load_weights(tmp_path / "model-packed.npz")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", None], ids=["empty", "cut", "others"])
def test_another_file_is_refused_in_one_line(content: bytes | None, tmp_path: Path) -> None:
    file = tmp_path / "some.npz"
    if content is None:
        np.savez(file, weights=np.zeros(3))
    else:
        file.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"some\.npz: ") as caught:
        load_weights(file)
    assert "\n" not in str(caught.value)
