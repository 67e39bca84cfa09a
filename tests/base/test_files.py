"""Files appear whole or not at all."""

import hashlib
import os
import stat
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from yoloq.base import files as module
from yoloq.base.errors import RunError
from yoloq.base.files import (
    check_writable,
    hashes,
    is_lfs_pointer,
    remove_left,
    replace_when_whole,
    sha256,
    temporary_folder,
    write_text,
)


def test_a_file_appears_with_its_whole_content(tmp_path: Path) -> None:
    file = tmp_path / "new" / "a.txt"
    write_text(file, "text")
    assert file.read_text() == "text"
    assert [item.name for item in file.parent.iterdir()] == ["a.txt"]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("old")

    def write_half() -> None:
        with replace_when_whole(file) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half()
    assert file.read_text() == "old"
    assert [item.name for item in tmp_path.iterdir()] == ["a.txt"]


def test_a_file_has_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    write_text(tmp_path / "ours", "text")
    (tmp_path / "plain").write_text("text")
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("ours", "plain")]
    assert modes[0] == modes[1]


def test_what_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"file/a\.txt: cannot be written \(.+\); make room"):
        write_text(tmp_path / "file" / "a.txt", "text")


def test_a_full_disk_is_named_where_torch_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write() -> None:
        with replace_when_whole(tmp_path / "a.pt"):
            raise RuntimeError("unexpected pos 767936 vs 767824")

    with pytest.raises(RuntimeError, match="unexpected pos"):
        write()
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=4096))
    with pytest.raises(RunError, match=r"a\.pt: cannot be written \(the disk is full\)"):
        write()
    assert not list(tmp_path.iterdir())


def test_what_fails_without_a_disk_is_left_as_it_is(tmp_path: Path) -> None:
    """Neither torch nor the disk knows of an error: it is a defect."""
    with pytest.raises(RuntimeError, match="shapes differ"), replace_when_whole(tmp_path / "a"):
        raise RuntimeError("shapes differ")


def test_a_temporary_folder_goes_with_its_block(tmp_path: Path) -> None:
    def fail() -> None:
        with temporary_folder(tmp_path / "new", "search") as folder:
            (folder / "file").touch()
            assert folder.parent == tmp_path / "new" and folder.name.startswith(".search-")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not list((tmp_path / "new").iterdir())
    (tmp_path / "file").touch()
    made = temporary_folder(tmp_path / "file", "search")
    with pytest.raises(RunError, match="cannot be written"), made:
        pass


def test_what_killed_processes_left_is_removed(tmp_path: Path) -> None:
    kept = ["ptq.pt", ".lock", ".gitignore", f"a-{'0' * 32}.pt", f".new-{'1' * 32}.json"]
    left = [f".ptq-{'a' * 32}.pt", f".search-{'0' * 32}"]
    for name in kept + left[:1]:
        (tmp_path / name).touch()
    (tmp_path / left[1] / "inside").mkdir(parents=True)
    then = time.time() - 100
    for name in [*left, *kept[:-1]]:
        os.utime(tmp_path / name, (then, then))
    remove_left(tmp_path, before=then + 1)
    assert {path.name for path in tmp_path.iterdir()} == set(kept)
    remove_left(tmp_path / "none", before=then)


def test_a_folder_is_checked_before_it_is_made(tmp_path: Path) -> None:
    check_writable(tmp_path / "runs" / "a")
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"file/a: cannot be written; choose another --project"):
        check_writable(tmp_path / "file" / "a")


def test_the_hash_is_that_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"bytes")
    assert sha256(tmp_path / "a") == hashlib.sha256(b"bytes").hexdigest()


A = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"  # sha256sum's, of "a"
B = "3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d"  # of "b"


def test_hashes_of_several_files(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    (tmp_path / "b").write_text("b")
    names = ("b", "a", "none", "b")
    assert list(hashes(tmp_path / name for name in names)) == [B, A, "", B]


def test_a_file_is_read_once_until_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []
    monkeypatch.setattr(module, "sha256", lambda file: read.append(file) or sha256(file))
    file = tmp_path / "a"
    file.write_text("a")
    assert [*hashes([file]), *hashes([file])] == [A, A]
    assert len(read) == 2, "its time is too new to tell the next change"
    monkeypatch.setattr(module, "SETTLED", 0)
    assert [*hashes([file]), *hashes([file])] == [A, A]
    assert len(read) == 3
    times = file.stat()
    time.sleep(0.05)  # more than a step of the file system's clock
    file.write_text("b")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert list(hashes([file])) == [B]


@pytest.mark.parametrize(
    ("content", "want"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", True),
        (b"version 2", False),
        (b"", False),
    ],
    ids=["pointer", "text", "empty"],
)
def test_a_git_lfs_pointer(tmp_path: Path, content: bytes, want: bool) -> None:
    (tmp_path / "a").write_bytes(content)
    assert is_lfs_pointer(tmp_path / "a") is want
    assert not is_lfs_pointer(tmp_path / "none")
