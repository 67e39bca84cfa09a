"""Keeping freed memory: a block of an activation's size comes back without page faults."""

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, torch
from yoloq.base.machine import keep_freed_memory
if {keep}: keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):  # the heap grows at first
    torch.ones(16, 1024, 1024)
before = faults()
for _ in range(10):
    torch.ones(16, 1024, 1024)
print(faults() - before)
"""


def page_faults(keep: bool) -> int:
    code = FAULTS.format(keep=keep)
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return int(run.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_large_blocks_are_used_again() -> None:
    assert page_faults(keep=True) < 0.2 * page_faults(keep=False)
