"""Two processes as the standard launcher starts them."""

import os
import subprocess
import sys
from pathlib import Path

from yoloq.base.own_files import ROOT

SUPPORT = ROOT / "tests" / "support"


def started(*arguments: str) -> "subprocess.Popen[str]":
    """Begin a script in both, on a free port, with one thread each."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    paths = os.pathsep.join((str(ROOT), str(SUPPORT)))
    return subprocess.Popen(
        [*launcher, "--nproc-per-node", "2", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": paths},
    )


def torchrun(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run a script in both to its end."""
    process = started(*arguments)
    out, error = process.communicate()
    return subprocess.CompletedProcess(process.args, process.returncode, out, error)


def number_of(process: "subprocess.Popen[str]", rank: int) -> int:
    """The process number of a rank, as Linux tells it."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    [found] = [
        pid for pid in children if f"\0RANK={rank}\0" in Path(f"/proc/{pid}/environ").read_text()
    ]
    return int(found)
