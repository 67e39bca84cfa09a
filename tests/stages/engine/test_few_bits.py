"""`make engine` of weights of few bits: files of their real size, and what is said of them."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from tiny_set import TinySet

from yoloq.__main__ import main
from yoloq.engines.predictor import METADATA
from yoloq.quant.packed_file import load_packed
from yoloq.quant.quantized import load_quantized
from yoloq.stages.engine import few_bits

pytestmark = pytest.mark.usefixtures("one_thread")
FEW = {"model-packed.npz", "model-int4.onnx"}


def built(tiny: TinySet, project: Path, bits: int, *more: str) -> tuple[dict, set[str]]:
    """The result of an engine run behind a PTQ with so many bits, and the files of the run."""
    assert (
        main("ptq", tiny.flags(project, "--weight-bits", str(bits), "--refine", "none", *more)) == 0
    )
    flags = ("--engine", "torch", "--precisions", "int8", "--runs", "1", "--threads", "1")
    assert main("engine", tiny.flags(project, *flags)) == 0
    folder = project / "run"
    result = json.loads((folder / "engine-torch.json").read_text())
    return result, {file.name for file in folder.iterdir()}


def test_four_bits_and_then_eight(
    tiny: TinySet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result, names = built(tiny, tmp_path, 4)
    folder = tmp_path / "run"
    assert names >= FEW
    assert {result["artifacts"][key] for key in ("packed", "onnx-int4")} == FEW
    sizes = {name: (folder / name).stat().st_size for name in FEW}
    assert result["notes"]["packed"] == sizes
    assert sizes["model-int4.onnx"] < (folder / "model-int8.onnx").stat().st_size
    assert "weights of few bits, packed: model-packed.npz 0.2" in capsys.readouterr().err
    loaded, made = load_packed(folder / "model-packed.npz"), load_quantized(folder / "ptq.pt")
    assert loaded.policy == made.policy
    props = {p.key for p in onnx.load(folder / "model-int4.onnx").metadata_props}
    assert METADATA in props

    result, names = built(tiny, tmp_path, 8)  # nothing of the earlier model stays
    assert not names & FEW and result["notes"]["packed"] == {}


def test_what_no_int8_clips_to_is_packed_without_onnx(tiny: TinySet, tmp_path: Path) -> None:
    result, names = built(tiny, tmp_path, 4, "--activation-bits", "4")
    assert names & FEW == {"model-packed.npz"} == set(result["notes"]["packed"])


def test_an_int4_file_that_is_read_wrongly_is_not_kept(
    tiny: TinySet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def wrong(file: Path, images: np.ndarray, threads: int) -> list[np.ndarray]:
        return [np.full((1, 2, 2), 1.0 if "int4" in file.name else 2.0)]

    monkeypatch.setattr(few_bits, "run_onnx", wrong)
    result, names = built(tiny, tmp_path, 4)
    assert set(result["notes"]["packed"]) == {"model-packed.npz"}
    assert "model-int4.onnx" not in names
    said = capsys.readouterr().err
    assert (
        "warning: model-int4.onnx: its raw maps are not those of model-int8.onnx (off by 50" in said
    )
