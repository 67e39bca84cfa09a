"""The fuzzer of the checkpoint reader, for a few seconds; `make fuzz-checkpoint` runs it long."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

SECONDS = 15
FUZZER = Path(__file__).parent / "fuzz_checkpoint.py"


@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris: Linux x86 only")
def test_no_input_gets_out_of_the_reader(tmp_path: Path) -> None:
    command = [sys.executable, str(FUZZER), str(SECONDS), str(tmp_path / "inputs")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    runs = re.search(r"number_of_executed_units: (\d+)", done.stderr)
    assert runs is not None and int(runs[1]) > 100
