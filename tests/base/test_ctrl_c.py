"""Ctrl-C while a command still imports: no trace, and nothing is left."""

import subprocess
import sys
from pathlib import Path

import pytest
from tiny_set import TinySet

from yoloq.base.own_files import ROOT

INTERRUPTED = """
import os, runpy, signal, sys

class Stop:
    def find_spec(self, name, path=None, target=None):
        if name == stop:
            os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
stop = sys.argv[1]
sys.meta_path.insert(0, Stop())
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize(
    ("module", "said"),
    [
        ("argparse", ""),
        ("yoloq.base.variables", ""),
        ("yoloq.stages.ptq", "interrupted"),
        ("yoloq.stages.ptq.stage", "interrupted"),
        ("numpy", "interrupted"),
        ("torch", "interrupted"),
        ("torch._C", "interrupted"),
        ("torch.nn.functional", "interrupted"),
    ],
)
def test_imports_end_without_a_trace(module: str, said: str, tiny: TinySet, tmp_path: Path) -> None:
    script = str(ROOT / "scripts" / "ptq.py")
    command = [sys.executable, "-c", INTERRUPTED, module, script, *tiny.flags(tmp_path)]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 130
    assert done.stderr.startswith(said) and done.stderr.count("\n") == bool(said)
    assert not list(tmp_path.iterdir())
