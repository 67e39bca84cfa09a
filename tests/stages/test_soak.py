"""The same work over and over, shortly: `make reliability` has the long forms."""

import json
import mmap
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import soak
from tiny_set import TinySet

SHORT = {"engine-onnxruntime": 1000, "loader": 6, "predict": 300}
ROUNDS = """
import json, sys
from pathlib import Path
from soak import soak
from tiny_set import TinySet

weights, data, project, rounds = sys.argv[1:]
tiny = TinySet(Path(weights), Path(data))
found = {
    name: soak(name, tiny, Path(project), count).to_json()
    for name, count in json.loads(rounds).items()
}
(Path(project) / "found.json").write_text(json.dumps(found))
"""


def test_memory_stays_flat_and_nothing_stays_open(
    tiny: TinySet, ready: Path, tmp_path: Path
) -> None:
    """In a process of its own: this one has freed memory, and would not be seen to grow."""
    shutil.copytree(ready, tmp_path, dirs_exist_ok=True)
    given = [str(tiny.weights), str(tiny.data), str(tmp_path), json.dumps(SHORT)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", ROUNDS, *given]
    folder = Path(soak.__file__).parent
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    assert {name: each["faults"] for name, each in found.items()} == {name: [] for name in SHORT}
    assert {name: each["rounds"] for name, each in found.items()} == SHORT


def test_what_is_kept_is_seen() -> None:
    kept: list[mmap.mmap] = []

    def leak(rounds: int) -> None:
        for _ in range(rounds):
            kept.append(mmap.mmap(-1, 12_288))
            kept[-1].write(b"x" * 12_288)
            time.sleep(0.0002)

    found = soak.soaked(leak, 1000)
    assert found.growth > 5_000_000
    assert found.faults == [f"memory grew by {found.growth} bytes"]


def test_what_stays_open_is_seen() -> None:
    held, rest = [], threading.Event()

    def leave(rounds: int) -> None:
        time.sleep(0.05)
        if rounds > 1:
            held.append(open(os.devnull))  # noqa: SIM115
            threading.Thread(target=rest.wait).start()

    found = soak.soaked(leave, 2)
    rest.set()
    held.pop().close()
    assert found.faults == ["1 descriptors are left", "1 threads are left"]


def test_the_long_forms_are_as_long_as_promised() -> None:
    """What SECURITY.md and the note say."""
    assert {name: rounds for name, (rounds, _) in soak.SOAKS.items()} == {
        "engine-openvino": 20_000,
        "engine-onnxruntime": 20_000,
        "loader": 50,
        "predict": 5_000,
    }
