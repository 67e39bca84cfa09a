"""Temporary folders of commands that work at once: what a killed one left goes, no other."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from yoloq.base import flock
from yoloq.base.owned_folder import owned_folder

KILLED = """
import os, signal, sys, time
from pathlib import Path
from yoloq.base.owned_folder import owned_folder

with owned_folder(Path(sys.argv[1]), "predict", time.time()) as made:
    (made / "half").write_text("x")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_command_left_goes(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)])
    assert done.returncode == -signal.SIGKILL
    [left] = tmp_path.iterdir()
    with owned_folder(tmp_path, "predict", time.time() + 1) as made:
        assert list(tmp_path.iterdir()) == [made] and made != left
    assert not list(tmp_path.iterdir())


def test_those_of_others_that_work_stay(tmp_path: Path) -> None:
    later = time.time() + 60
    with owned_folder(tmp_path, "predict", later) as one:
        with owned_folder(tmp_path, "predict", later) as other:
            assert one.is_dir() and other.is_dir() and one != other
        assert list(tmp_path.iterdir()) == [one]


def test_one_that_may_not_be_locked_yet_stays(tmp_path: Path) -> None:
    began = time.time() - 60
    young = tmp_path / f".predict-{'0' * 32}"
    young.mkdir()
    with owned_folder(tmp_path, "predict", began):
        assert young.is_dir()
    os.utime(young, (began - 1, began - 1))
    with owned_folder(tmp_path, "predict", began):
        assert not young.exists()


def test_other_names_stay(tmp_path: Path) -> None:
    for name in (".hidden", "film-openvino-int8", ".git"):
        (tmp_path / name).mkdir()
    with owned_folder(tmp_path, "predict", time.time() + 60):
        pass
    assert len(list(tmp_path.iterdir())) == 3


def test_without_locks_nobody_can_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flock, "fcntl", None)
    (tmp_path / f".predict-{'0' * 32}").mkdir()
    with owned_folder(tmp_path, "predict", time.time() + 60) as made:
        assert len(list(tmp_path.iterdir())) == 2 and made.is_dir()
