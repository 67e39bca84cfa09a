"""A machine without enough memory: one line, exit code 2, nothing of earlier stages lost.

Where a library itself falls over a failed allocation the system ends the process; then, too, all
that was finished stands.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch
from killed import __file__ as killed
from tiny_set import TinySet

from yoloq.__main__ import main
from yoloq.base.errors import CheckpointError
from yoloq.data import loader
from yoloq.data.images import read_image
from yoloq.models.load import load_model
from yoloq.train.state import KEYS, RunState

pytestmark = pytest.mark.usefixtures("one_thread")

ROOMS = (4, 16, 80)  # MB beyond what the imports take: reading, building, running
LIMITED = """
import json, resource, sys
from pathlib import Path
from killed import forked, import_stages
from yoloq.__main__ import main

log, *flags = sys.argv[1:]
import_stages(["ptq"])
PAGE, ROOMS = resource.getpagesize(), json.loads(flags.pop())

def limited(room):
    taken = PAGE * int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (taken + (room << 20),) * 2)
    return main("ptq", flags)

print(json.dumps([forked(lambda: limited(room), Path(f"{log}-{room}"))[0] for room in ROOMS]))
"""
ENDS = {2, -signal.SIGSEGV, -signal.SIGABRT}  # our own, and those of libraries


def test_too_little_memory_is_one_line_and_loses_nothing(
    tiny: TinySet, ready: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    for file in (ready / "run").glob("baseline*"):
        shutil.copy(file, run)
    earlier = {file.name: file.read_bytes() for file in run.iterdir()}
    flags = tiny.flags(tmp_path, "--images", "6")
    command = [sys.executable, "-c", LIMITED, str(tmp_path / "log"), *flags, json.dumps(ROOMS)]
    done = subprocess.run(
        command, cwd=Path(killed).parent, stdout=subprocess.PIPE, text=True, env=ONE_THREAD
    )
    codes = dict(zip(ROOMS, json.loads(done.stdout), strict=True))
    assert codes[ROOMS[0]] == 2 and set(codes.values()) <= ENDS, codes
    for room in (room for room, code in codes.items() if code == 2):
        said = (tmp_path / f"log-{room}").read_text()
        [error] = [line for line in said.splitlines() if line.startswith("error: ")]
        assert "out of memory (" in error and "take a smaller --batch-size" in error
        assert "Traceback" not in said
    now = {file.name: file.read_bytes() for file in run.iterdir()}
    assert {name: now[name] for name in earlier} == earlier
    assert "ptq.json" not in now


ONE_THREAD = os.environ | {"OMP_NUM_THREADS": "1"}


def no_memory(*_: Any, **__: Any) -> Any:
    raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 4096 bytes")


def too_large(*_: Any) -> Any:
    raise MemoryError


def no_thread(*_: Any) -> Any:
    raise RuntimeError("can't start new thread")


def defect(*_: Any) -> Any:
    raise cv2.error("Insufficient memory: Failed to allocate 4096 bytes")


@pytest.mark.parametrize(
    ("where", "fault"),
    [
        pytest.param("yoloq.data.loader.read_image", too_large, id="a thread that decodes"),
        pytest.param("cv2.imdecode", defect, id="OpenCV"),
        pytest.param("threading.Thread.start", no_thread, id="no more threads"),
        pytest.param("torch.nn.functional.conv2d", no_memory, id="torch"),
    ],
)
def test_the_loaders_threads_end_in_one_line(
    where: str,
    fault: Callable[..., Any],
    tiny: TinySet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    the_error: Callable[[], str],
) -> None:
    """They are threads, which no system kills one by one: what one of them raises ends all."""
    monkeypatch.setattr(loader, "affinity", lambda: [0, 1])
    monkeypatch.setattr(where, fault)
    flags = [*tiny.flags(tmp_path), "--workers", "2", "--quiet"]
    assert main("baseline", flags) == 2
    assert the_error().startswith("error: out of memory (")
    assert not (tmp_path / "run").exists()


def test_an_image_is_not_left_out_for_want_of_memory(
    tiny: TinySet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That would be another result."""
    file = next(iter(tiny.pictures.iterdir()))
    monkeypatch.setattr(cv2, "imdecode", defect)
    with pytest.raises(MemoryError, match=f"to decode .*{file.name}"):
        read_image(file)


def test_a_checkpoint_is_not_called_damaged(tiny: TinySet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "UntypedStorage", no_memory)
    with pytest.raises(RuntimeError, match="DefaultCPUAllocator"):
        load_model(tiny.weights)
    monkeypatch.setattr(torch, "UntypedStorage", lambda *_: 1 / 0)
    with pytest.raises(CheckpointError, match="damaged"):
        load_model(tiny.weights)


def test_an_interrupted_training_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its advice is to remove it."""
    state = RunState.__new__(RunState)
    state.file = tmp_path / "train-state.pt"
    torch.save(dict.fromkeys(KEYS, 0), state.file)
    monkeypatch.setattr(torch, "load", no_memory)
    with pytest.raises(RuntimeError, match="DefaultCPUAllocator"):
        state._read()
