"""Stages that are killed at random points and started again; `make reliability` does more of it."""

import hashlib
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import reliability
from kill_cases import CASES
from run_outcome import differences, outcome, torn

from yoloq.__main__ import STAGES


def test_killed_stages_end_as_if_they_were_not(tmp_path: Path) -> None:
    command = [sys.executable, str(reliability.__file__), "--only", "kill-baseline", "kill-ptq"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    out = tmp_path / "found.json"
    done = subprocess.run(
        [*command, "--kills", "1", "--out", str(out)],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    parts = json.loads(out.read_text())["parts"]
    assert {name: each["faults"] for name, each in parts.items()} == {
        "kill-baseline": [],
        "kill-ptq": [],
    }
    assert [each["killed"] for each in parts.values()] == [1, 1]


def test_all_stages_that_write_are_killed() -> None:
    """Data is made by what reads it, a report is text, and the others only print."""
    without = {"data", "report", "lint_onnx", "gpu_check"}
    assert {case.stage for case in CASES.values()} == STAGES.keys() - without


def test_what_a_result_lost_is_seen() -> None:
    one = {"rows": [{"map50": 0.5}, {"map50": 0.25}], "hashes": {"ptq.pt": "a"}}
    other = {"rows": [{"map50": 0.5}, {"map50": 0.26}], "hashes": {"ptq.pt": "b"}}
    assert differences(one, one) == []
    assert differences(one, other) == ["rows.1.map50", "hashes.ptq.pt"]
    assert differences(one, {**one, "rows": []}) == ["rows"]
    assert differences(one, {}) == [""]


def test_times_and_what_follows_from_them_are_no_part_of_it(tmp_path: Path) -> None:
    result = {"rows": [{"map50": 0.5, "fps": 3}], "seconds": 1, "hashes": {"qat.csv": "a"}}
    (tmp_path / "qat.json").write_text(json.dumps(result | {"front": 1, "size_front": 2}))
    (tmp_path / "policy.json").write_text("{}")
    (tmp_path / "sub").mkdir()
    for name in ("sub/a.pt", "nas-b.pt"):
        (tmp_path / name).write_bytes(b"abc")
    assert outcome(tmp_path, ("*front", "nas-*.pt")) == {
        "qat.json": {"rows": [{"map50": 0.5}], "hashes": {}},
        "sub/a.pt": hashlib.sha256(b"abc").hexdigest(),
    }


def test_a_file_that_is_cut_is_seen(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "whole.pt", "w") as archive:
        archive.writestr("data", "x" * 1000)
    content = (tmp_path / "whole.pt").read_bytes()
    for folder in ("sub", ".hidden"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "cut.pt").write_bytes(content[: len(content) // 2])
    (tmp_path / "cut.json").write_text('{"a": ')
    (tmp_path / "whole.json").write_text("{}")
    (tmp_path / "cut.jsonl").write_text('{"a": 1}\n{"a"')
    assert sorted(torn(tmp_path)) == ["cut.json", "cut.pt"]


def test_a_part_is_gone_on_with_where_all_is_as_it_was(tmp_path: Path) -> None:
    file, facts = tmp_path / "reliability.json", {"code": "a", "seed": 0}
    for name in ("soak-loader", "kill-ptq"):
        reliability.Record(file, facts).keep(name, {"tried": 3, "faults": []})
    assert list(json.loads(file.read_text())["parts"]) == ["kill-ptq", "soak-loader"]
    assert reliability.Record(file, facts).known("kill-ptq") == {"tried": 3, "faults": []}
    assert reliability.Record(file, facts).known("kill-qat") == {}
    other = reliability.Record(file, facts | {"code": "b"})
    assert other.known("kill-ptq") == {}
    other.keep("soak-loader", {"rounds": 1})
    again = reliability.Record(file, facts)
    assert again.known("kill-ptq") and not again.known("soak-loader"), "each of its own code"


def test_a_killed_process_tells_how_it_ended(tmp_path: Path) -> None:
    """The signal of the one, the code of the other."""
    command = [sys.executable, "-c", FORKED, str(tmp_path / "log")]
    done = subprocess.run(command, cwd=Path(reliability.__file__).parent, stdout=subprocess.PIPE)
    assert done.stdout.split() == [b"-9", b"130", b"3"]


FORKED = """
import signal, sys, time
from pathlib import Path
from killed import forked
from yoloq.__main__ import guarded

log, sleep = Path(sys.argv[1]), lambda: guarded(lambda: time.sleep(60))
codes = [forked(sleep, log, 0.2, by)[0] for by in (signal.SIGKILL, signal.SIGINT)]
print(*codes, forked(lambda: 3, log)[0])
"""
