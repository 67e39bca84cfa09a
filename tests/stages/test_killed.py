"""Stages that are killed at random points and started again; `make reliability` does more of it."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import reliability


def test_killed_stages_end_as_if_they_were_not(tmp_path: Path) -> None:
    command = [sys.executable, str(reliability.__file__), "--stages", "baseline", "ptq"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    out = tmp_path / "found.json"
    done = subprocess.run(
        [*command, "--kills", "1", "--out", str(out)],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    kills = json.loads(out.read_text())["kills"]
    assert {name: each["faults"] for name, each in kills.items()} == {"baseline": [], "ptq": []}
    assert {name: each["killed"] for name, each in kills.items()} == {"baseline": 1, "ptq": 1}


def test_what_a_result_lost_is_seen() -> None:
    one = {"rows": [{"map50": 0.5}, {"map50": 0.25}], "hashes": {"ptq.pt": "a"}}
    other = {"rows": [{"map50": 0.5}, {"map50": 0.26}], "hashes": {"ptq.pt": "b"}}
    assert reliability.differences(one, one) == []
    assert reliability.differences(one, other) == ["rows.1.map50", "hashes.ptq.pt"]
    assert reliability.differences(one, {**one, "rows": []}) == ["rows"]
    assert reliability.differences(one, {}) == [""]


def test_times_are_no_part_of_it(tmp_path: Path) -> None:
    result = {"rows": [{"map50": 0.5, "fps": 3}], "seconds": 1, "hashes": {"qat.csv": "a"}}
    (tmp_path / "qat.json").write_text(json.dumps(result))
    assert reliability.outcome(tmp_path, "qat") == {"rows": [{"map50": 0.5}], "hashes": {}}


def test_a_file_that_is_cut_is_seen(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "whole.pt", "w") as archive:
        archive.writestr("data", "x" * 1000)
    content = (tmp_path / "whole.pt").read_bytes()
    (tmp_path / "cut.pt").write_bytes(content[: len(content) // 2])
    (tmp_path / "cut.json").write_text('{"a": ')
    (tmp_path / "whole.json").write_text("{}")
    (tmp_path / "cut.jsonl").write_text('{"a": 1}\n{"a"')
    assert sorted(reliability.torn(tmp_path)) == ["cut.json", "cut.pt"]


def test_a_killed_process_tells_how_it_ended(tmp_path: Path) -> None:
    """The signal of the one, the code of the other."""
    command = [sys.executable, "-c", FORKED, str(tmp_path / "log")]
    done = subprocess.run(command, cwd=Path(reliability.__file__).parent, stdout=subprocess.PIPE)
    assert done.stdout.split() == [b"-9", b"130", b"3"]


FORKED = """
import signal, sys, time
from pathlib import Path
from reliability import forked
from yoloq.__main__ import guarded

log, sleep = Path(sys.argv[1]), lambda: guarded(lambda: time.sleep(60))
codes = [forked(sleep, log, 0.2, by)[0] for by in (signal.SIGKILL, signal.SIGINT)]
print(*codes, forked(lambda: 3, log)[0])
"""
