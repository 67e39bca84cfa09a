"""`make codebook` on a tiny set: files, figures, reuse, mistakes."""

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_set import TinySet

from yoloq.__main__ import main
from yoloq.data import loader
from yoloq.quant.codebook.codes_file import load_codes
from yoloq.stages.codebook import stage

pytestmark = pytest.mark.usefixtures("one_thread")


def run(tiny: TinySet, project: Path, *more: str) -> int:
    return main("codebook", tiny.flags(project, *more))


def read(project: Path, name: str = "codebook") -> dict[str, Any]:
    return json.loads((project / "run" / f"{name}.json").read_text())


def test_rows_files_and_reuse(tiny: TinySet, tmp_path: Path, capsys, monkeypatch) -> None:
    assert run(tiny, tmp_path, "--images", "4") == 0
    err = capsys.readouterr().err
    assert "it gains size, not time" in err
    full, int8, coded = read(tmp_path)["rows"]
    assert (full["name"], int8["name"]) == ("FP32", "INT8 PTQ")
    assert coded["name"] == "4 bits a weight, per channel" and coded["precision"] == "codebook"
    assert full["map50_95"] == read(tmp_path, "baseline")["rows"][0]["map50_95"]
    assert int8["fidelity"] == read(tmp_path, "ptq")["rows"][0]["fidelity"]
    assert 0 < coded["fidelity"] <= 1
    assert all(row["latency_ms"] is None for row in (full, int8, coded)), "it claims no speed"
    file = tmp_path / "run" / "codebook.npz"
    assert coded["size_bytes"] == file.stat().st_size
    model = load_codes(file)
    assert model.imgsz == 64
    parameters = list(model.net.parameters())
    assert full["size_bytes"] == 4 * sum(p.numel() for p in parameters)
    assert full["size_bytes"] / 4 < int8["size_bytes"] < full["size_bytes"]

    before = file.read_bytes()
    monkeypatch.setattr(stage, "write", lambda *_: pytest.fail("done already"))
    assert run(tiny, tmp_path, "--images", "4") == 0
    assert "codebook.json is up to date" in capsys.readouterr().err
    assert file.read_bytes() == before


def test_bytes_of_int8_by_hand(tiny: TinySet, tmp_path: Path) -> None:
    """All but the head and the first layers: one byte a weight, four a channel; the rest four."""
    assert run(tiny, tmp_path, "--images", "0", "--bits", "2") == 0
    notes = {item["layer"]: item["int8"] for item in read(tmp_path, "ptq")["notes"]["layers"]}
    size = 0
    for name, parameter in load_codes(tmp_path / "run" / "codebook.npz").net.named_parameters():
        quantized = parameter.ndim == 4 and notes[name.removesuffix(".weight")]
        size += parameter.numel() * (1 if quantized else 4) + 4 * quantized * len(parameter)
    assert read(tmp_path)["rows"][1]["size_bytes"] == size


def test_first_layer_and_head_have_other_bits(tiny: TinySet, tmp_path: Path, monkeypatch) -> None:
    seen = {}

    def kept(model, specs, batches, seed):
        seen.update(specs)
        raise KeyboardInterrupt

    monkeypatch.setattr(stage, "code_network", kept)
    flags = ("--bits", "2", "--dim", "4", "--per", "layer", "--edge-bits", "6")
    assert run(tiny, tmp_path, *flags) == 130
    usual = {name for name, spec in seen.items() if (spec.bits, spec.dim) == (2, 4)}
    edges = {name for name, spec in seen.items() if (spec.bits, spec.dim) == (6, 1)}
    assert edges == {"model.0.conv", "model.24.m.0", "model.24.m.1", "model.24.m.2"}
    assert "model.1.conv" in usual and len(usual) + len(edges) == len(seen)
    assert not (tmp_path / "run" / "codebook.npz").exists()


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (("--bits", "9"), "--bits 9: must be 1 to 8"),
        (("--bits", "0"), "--bits 0: must be 1 to 8"),
        (("--bits", "5", "--dim", "2", "--per", "layer"), "--bits 5: must be 1 to 4 with --dim 2"),
        (("--dim", "2"), "--dim 2: must be 1 with --per channel: more needs --per layer"),
        (("--dim", "3", "--per", "layer"), "invalid choice: 3"),
        (("--per", "group"), "invalid choice: 'group'"),
        (("--edge-bits", "16"), "--edge-bits 16: must be 1 to 8"),
        (("--images", "-1"), "--images -1: must be 0 (none) or more"),
    ],
)
def test_a_slip_in_a_flag(tiny: TinySet, tmp_path: Path, capsys, flags, reason: str) -> None:
    assert run(tiny, tmp_path, *flags) == 2
    err = capsys.readouterr().err
    assert reason in err and err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_no_calibration_image_can_be_read(
    tiny: TinySet, tmp_path: Path, capsys, monkeypatch
) -> None:
    assert run(tiny, tmp_path, "--images", "0", "--bits", "2") == 0
    monkeypatch.setattr(loader, "read_image", lambda file: None)
    assert run(tiny, tmp_path, "--images", "2", "--bits", "2") == 2
    assert "none of 2 images can be read" in capsys.readouterr().err.splitlines()[-1]
