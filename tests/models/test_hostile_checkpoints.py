"""Checkpoints made to do harm: no code runs, nothing changes, and time and memory are bounded."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hostile_files import CANARY, CORPUS

from yoloq.__main__ import main

SECONDS = 10
TIMES, ALLOWANCE = 3, 512 << 20  # memory: three times the file, and what any file may take
WORKER = Path(__file__).parent.parent / "support" / "hostile_worker.py"


def tree(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a process of its own made of each file, in a folder that must not change."""
    folder = tmp_path_factory.mktemp("hostile")
    files = {f"{number}.pt": name for number, name in enumerate(CORPUS)}
    for file, name in files.items():
        CORPUS[name](folder / file)
    (folder / "bystander.txt").write_text("unchanged")
    before = tree(folder)
    command = [sys.executable, str(WORKER), *files]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout[-300:] + done.stderr[-2000:]
    assert tree(folder) == before, "a file was written, changed or removed"
    assert not (folder / CANARY).exists()
    lines = map(json.loads, done.stdout.splitlines())
    return {
        files[line["file"]]: line | {"size": (folder / line["file"]).stat().st_size}
        for line in lines
    }


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory is Linux's")
@pytest.mark.parametrize("name", CORPUS)
def test_a_hostile_file_is_refused_in_one_line(name: str, outcomes: dict[str, Any]) -> None:
    found = outcomes[name]
    assert found["end"] == "refused", found
    assert found["deeds"] == []
    assert found["message"].startswith(f"{found['file']}: ")
    assert "\n" not in found["message"] and len(found["message"]) < 500
    assert found["seconds"] < SECONDS
    assert found["bytes"] < TIMES * found["size"] + ALLOWANCE


@pytest.mark.parametrize("name", ["os.system", "zip bomb", "doubled names", "own: 10^10 weights"])
def test_a_stage_ends_with_code_2_and_writes_nothing(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "weights.pt"
    CORPUS[name](file)
    before = tree(tmp_path)
    flags = ["--weights", str(file), "--project", str(tmp_path / "runs"), "--device", "cpu"]
    assert main("baseline", flags) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {file}: ")
    assert tree(tmp_path) == before
