"""Files of arrays made to do harm: refused before anything is made in the size that they say."""

import struct
import zipfile
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

from yoloq.base import npz
from yoloq.base.archive import directory_size


def member(
    shape: str, dtype: str = "<f4", version: bytes = b"\x01\x00", data: bytes = b""
) -> bytes:
    """An array whose header says what it likes."""
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY" + version + struct.pack("<H", len(header)) + header + data


def archive(content: bytes, name: str = "a.npy") -> Callable[[Path], object]:
    def make(file: Path) -> None:
        with zipfile.ZipFile(file, "w") as made:
            made.writestr(name, content)

    return make


def encrypted(file: Path) -> None:
    archive(member("(1,)", data=bytes(4)))(file)
    content = bytearray(file.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    file.write_bytes(content)


def long_directory(file: Path) -> None:
    archive(member("(1,)", data=bytes(4)))(file)
    content = bytearray(file.read_bytes())
    struct.pack_into("<I", content, content.rindex(b"PK\x05\x06") + 12, 1 << 30)
    file.write_bytes(content)


def changed(file: Path) -> None:
    """One byte of packed numbers."""
    np.savez_compressed(file, a=np.arange(10_000))
    content = bytearray(file.read_bytes())
    content[300] ^= 0xFF
    file.write_bytes(content)


def bomb(file: Path) -> None:
    np.savez_compressed(file, a=np.zeros(8 << 20, np.uint8))


HOSTILE: dict[str, tuple[Callable[[Path], object], str]] = {
    "2^42 numbers": (archive(member("(4398046511104,)")), "no array of plain numbers"),
    "2^200 numbers": (archive(member(f"({2**100}, {2**100})")), "no array of plain numbers"),
    "a negative side": (archive(member("(-1,)")), "no array of plain numbers"),
    "fewer numbers": (archive(member("(2,)", data=bytes(4))), "no array of plain numbers"),
    "objects": (lambda f: np.savez(f, a=np.array([{}], object)), "no array of plain numbers"),
    "a header of code": (archive(member("__import__('os')")), "no header of"),
    "a deep header": (archive(member("(" * 9_000)), "no header of"),
    "a long header": (archive(member(f"({'1,' * 30_000})")), "no header of"),
    "another version": (archive(member("(1,)", version=b"\x09\x00")), "no header of"),
    "no array": (archive(b"hello"), "no header of"),
    "bomb": (bomb, "a zip bomb"),
    "encrypted": (encrypted, "is encrypted"),
    "a table of contents without measure": (long_directory, "without measure"),
    "changed": (changed, "is damaged"),
    "text": (lambda f: f.write_text("hello"), "is no .npz file"),
    "a pickle": (lambda f: f.write_bytes(b"\x80\x04N."), "is no .npz file"),
    "one array": (lambda f: f.write_bytes(member("(4398046511104,)")), "is no .npz file"),
    "cut": (lambda f: f.write_bytes(b"PK\x03\x04 cut"), "is damaged"),
    "empty": (lambda f: f.touch(), "is no .npz file"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_arrays(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(npz, "ROOM", 1 << 20)
    make, words = HOSTILE[case]
    file = tmp_path / "a.npz"
    make(file)
    with pytest.raises(ValueError, match=words), npz.opened(file) as data:
        data["a"]


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_what_numpy_writes_is_read(save: Callable[..., None], tmp_path: Path) -> None:
    arrays = {
        "text": np.array("key"),
        "texts": np.array(["a", "longer"]),
        "none": np.zeros((0, 4)),
        "number": np.array(3),
        "turned": np.asfortranarray(np.arange(6).reshape(2, 3)),
        "many": np.zeros(1000, np.uint8),
    }
    save(tmp_path / "a.npz", **arrays)
    with npz.opened(tmp_path / "a.npz") as data:
        assert data.files == list(arrays)
        for name, array in arrays.items():
            np.testing.assert_array_equal(data[name], array)
            assert data[name].dtype == array.dtype


def test_a_file_that_is_not_there_is_no_damage(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), npz.opened(tmp_path / "none.npz"):
        pass


def test_what_goes_wrong_in_the_block_stays_what_it_is(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", a=np.zeros(1))
    with pytest.raises(KeyError), npz.opened(tmp_path / "a.npz") as data:
        data["b"]
    damage = pytest.raises(ValueError, match=r"is damaged \(error: no stream")
    with damage, npz.opened(tmp_path / "a.npz"):
        raise zlib.error("no stream")


@pytest.mark.parametrize("ends", [b"", b"PK\x05\x06", b"x" * 100], ids=["none", "cut", "other"])
def test_an_archive_without_an_end_names_no_directory(ends: bytes) -> None:
    assert directory_size(BytesIO(ends), len(ends)) == 0
