"""One process at a time works in a run folder; tried with real second processes."""

import os
import platform
import signal
import subprocess
import sys
from collections.abc import Iterator
from io import FileIO
from pathlib import Path

import pytest
from tiny_set import TinySet

from yoloq.__main__ import main
from yoloq.base import run_lock as module
from yoloq.base.errors import RunError
from yoloq.base.run_lock import held

HOLDER = """
import sys, time
from pathlib import Path
from yoloq.base.run_lock import held
with held(Path(sys.argv[1]), "yoloq qat"):
    print("in", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that works in `runs/run` until its input ends."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "runs" / "run")]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout and process.stdout.readline() == "in\n"
        yield process
        process.kill()


def test_the_second_process_is_told_who_works_there(
    holder: subprocess.Popen[str],
    tmp_path: Path,
    tiny: TinySet,
    capsys: pytest.CaptureFixture[str],
) -> None:
    project = tmp_path / "runs"
    assert main("baseline", tiny.flags(project)) == 2
    where = f"process {holder.pid} on {platform.node()} (yoloq qat)"
    assert capsys.readouterr().err == (
        f"error: {project / 'run'}: {where} works in it; "
        "wait for its end or choose another --name\n"
    )
    assert [file.name for file in (project / "run").iterdir()] == [".lock"]
    with held(project / "other", "yoloq ptq"):
        assert (project / "other").is_dir(), "the neighbour is free"


def test_nothing_of_it_is_left(holder: subprocess.Popen[str], tmp_path: Path) -> None:
    assert holder.stdin
    holder.stdin.close()
    assert holder.wait() == 0
    assert list(tmp_path.iterdir()) == [], "folders that stayed empty go too"


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGINT], ids=lambda by: by.name)
def test_a_killed_process_holds_nothing(
    by: signal.Signals, holder: subprocess.Popen[str], tmp_path: Path
) -> None:
    folder = tmp_path / "runs" / "run"
    os.kill(holder.pid, by)
    holder.wait()
    with held(folder, "yoloq ptq"):
        text = (folder / ".lock").read_text()
        assert text == f"process {os.getpid()} on {platform.node()} (yoloq ptq)"


@pytest.mark.parametrize(
    ("stage", "more", "answer"),
    [
        ("report", [], "holds no results"),
        ("predict", ["--source", "a.png"], "engine"),
        ("benchmark", [], "engine"),
    ],
)
def test_who_only_reads_is_not_kept_out(
    stage: str,
    more: list[str],
    answer: str,
    holder: subprocess.Popen[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """An empty run has nothing for them, and that is what they answer."""
    flags = ["--project", str(tmp_path / "runs"), "--name", "run", *more]
    assert main(stage, flags) == 2
    error = capsys.readouterr().err
    assert answer in error and "works in it" not in error


def test_a_file_that_is_removed_before_it_is_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by a holder who ends in that moment: its lock would hold nothing."""
    lock, locked = module._lock, []

    def late(stream: FileIO, folder: Path) -> None:
        if not locked:
            (folder / ".lock").unlink()
        locked.append(os.fstat(stream.fileno()).st_ino)
        lock(stream, folder)

    monkeypatch.setattr(module, "_lock", late)
    with held(tmp_path / "run", "yoloq ptq"):
        assert len(locked) == 2
        assert (tmp_path / "run" / ".lock").stat().st_ino == locked[1]


def test_the_lock_of_another_is_left(tmp_path: Path) -> None:
    """Who removed the folder in mid-run and made it anew works in the new one."""
    file = tmp_path / ".lock"
    with held(tmp_path, "yoloq ptq"):
        file.rename(tmp_path / "old")
        file.write_text("process 1")
    assert file.read_text() == "process 1"


def test_the_first_of_several_processes_holds_it(
    holder: subprocess.Popen[str],
    tmp_path: Path,
    tiny: TinySet,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("RANK", "1")
    assert main("ptq", tiny.flags(tmp_path / "runs", "--keep-float", "modle.9")) == 2
    assert "modle.9" in capsys.readouterr().err.splitlines()[-1]


def test_a_block_that_fails_lets_go(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "run"
    with pytest.raises(RunError, match="mended"), held(folder, "yoloq ptq"):
        raise RunError("mended")
    assert not list(tmp_path.iterdir())
    with held(folder, "yoloq ptq"):
        (folder / "ptq.json").touch()
    assert [file.name for file in folder.iterdir()] == ["ptq.json"]
