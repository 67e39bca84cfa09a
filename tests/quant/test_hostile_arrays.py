"""Readers of .npz files: what is not theirs is one line, or as if it were not there."""

import json
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from yoloq.base import npz
from yoloq.base.errors import CheckpointError
from yoloq.geometry.detections import Detections
from yoloq.measure.record import Records
from yoloq.quant.codebook.codes_file import load_codes
from yoloq.quant.float_weights import load_weights
from yoloq.quant.packed_file import TYPES, load_packed
from yoloq.quant.refine.parts import Parts
from yoloq.quant.statistics_file import load_statistics

NESTED = "[" * 100_000


def objects(file: Path) -> None:
    """All names that a reader asks for, as objects: pickles."""
    names = ("meta", "index", "key", "rows", "images", *TYPES)
    np.savez(file, **{name: np.array([{}], object) for name in names})


def bomb(file: Path) -> None:
    names = ("meta", "index", "key", "rows", "images", *TYPES)
    np.savez_compressed(file, **{name: np.zeros(1 << 20, np.uint8) for name in names})


def changed(file: Path) -> None:
    np.savez_compressed(file, meta=np.arange(10_000), key=np.arange(10_000), images=np.arange(9))
    content = bytearray(file.read_bytes())
    content[300] ^= 0xFF
    file.write_bytes(content)


@pytest.fixture(params=[objects, bomb, changed], ids=["objects", "bomb", "changed"])
def file(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(npz, "ROOM", 1 << 16)
    request.param(tmp_path / "a.npz")
    return tmp_path / "a.npz"


@pytest.mark.parametrize("read", [load_codes, load_packed, load_weights])
def test_models_are_refused_in_one_line(read: Callable[[Path], object], file: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        read(file)
    assert str(caught.value).startswith(f"{file}: ") and "\n" not in str(caught.value)


def test_what_is_only_kept_is_made_again(file: Path) -> None:
    assert load_statistics(file, "key") is None
    assert Parts(file, "key").arrays == {}
    assert Records.load(file) is None


def test_boxes_are_not_read(file: Path) -> None:
    with pytest.raises(ValueError):
        Detections.load(file)


SPEC = {"family": "yolov5", "names": ["a"], "fused": False, "imgsz": 64}
METAS = {
    "text": "hello",
    "nested": NESTED,
    "a list": "[]",
    "no family": json.dumps(SPEC | {"family": "os", "spec": {}}),
    "no spec": json.dumps(SPEC | {"spec": None}),
    "without end": json.dumps(SPEC | {"spec": {"layers": [[10**9] * 4]}}),
    "names": json.dumps(SPEC | {"spec": {}, "names": 5}),
}


@pytest.mark.parametrize("case", METAS)
def test_what_a_codebook_says_of_its_network(case: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", meta=np.array(METAS[case]))
    with pytest.raises(CheckpointError, match=r"a\.npz: .*make codebook") as caught:
        load_weights(tmp_path / "a.npz")
    assert "\n" not in str(caught.value)


def packed(file: Path, index: bytes) -> None:
    arrays = {name: np.zeros(4, kind) for name, kind in TYPES.items()}
    np.savez(file, index=np.frombuffer(index, np.uint8), **arrays)


INDEXES = {
    "no text": b"hello",
    "nested": zlib.compress(NESTED.encode()),
    "a bomb": zlib.compress(b"[" + bytes(80 << 20)),
    "a list": zlib.compress(b"[]"),
    "another version": zlib.compress(b'{"yoloq": 9}'),
    "no network": zlib.compress(b'{"yoloq": 1, "tensors": [], "meta": {}}'),
    "a tensor of nothing": zlib.compress(b'{"yoloq": 1, "tensors": [["a"]]}'),
    "a tensor of another array": zlib.compress(
        json.dumps({"yoloq": 1, "tensors": [["a", [2], "os"]]}).encode()
    ),
    "2^60 numbers": zlib.compress(
        json.dumps({"yoloq": 1, "tensors": [["a", [2**60], "floats"]]}).encode()
    ),
    "10^9 bits": zlib.compress(
        json.dumps({"yoloq": 1, "tensors": [["a", [4], "integers", 10**9, [1]]]}).encode()
    ),
}


@pytest.mark.parametrize("case", INDEXES)
def test_what_a_packed_file_says_of_its_tensors(case: str, tmp_path: Path) -> None:
    packed(tmp_path / "a.npz", INDEXES[case])
    with pytest.raises(CheckpointError, match=r"a\.npz: ") as caught:
        load_packed(tmp_path / "a.npz")
    assert "\n" not in str(caught.value)
