"""Exit codes and the one line a user sees."""

import os
import signal
from pathlib import Path

import pytest
import torch

from yoloq.__main__ import guarded
from yoloq.base.errors import UserError


def outcome(error: BaseException | None) -> int:
    def work() -> None:
        if error is not None:
            raise error

    return guarded(work)


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        pytest.param(None, 0, "", id="success"),
        pytest.param(UserError("--x: mend it"), 2, "error: --x: mend it\n", id="mistake"),
        pytest.param(
            PermissionError(13, "Permission denied", "best.pt"),
            2,
            "error: best.pt: Permission denied; check the path and its permissions\n",
            id="file",
        ),
        pytest.param(
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nSee more"),
            2,
            "error: out of memory (CUDA out of memory. Tried to allocate 2 GiB.); take a smaller",
            id="GPU memory",
        ),
        pytest.param(MemoryError(), 2, "error: out of memory (the machine has no", id="memory"),
        pytest.param(KeyboardInterrupt(), 130, "interrupted", id="interrupt"),
    ],
)
def test_errors_of_the_user_and_the_machine_are_one_line(
    error: BaseException | None, code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert outcome(error) == code
    printed = capsys.readouterr().err
    assert printed.startswith(line) and printed.count("\n") <= 1


def test_a_defect_keeps_its_stack_trace() -> None:
    for error in (ZeroDivisionError(), RuntimeError("shapes differ")):
        with pytest.raises(type(error)):
            outcome(error)


def test_termination_cleans_up_like_an_interrupt(tmp_path: Path) -> None:
    def work() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            signal.pause()
        finally:
            (tmp_path / "cleaned").touch()

    before = signal.getsignal(signal.SIGTERM)
    assert guarded(work) == 130
    assert (tmp_path / "cleaned").exists()
    assert signal.getsignal(signal.SIGTERM) == before
