"""The bar on a terminal, the line elsewhere."""

import contextlib
import io
import sys
import threading

import pytest

from yoloq.progress import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("quiet", [False, True])
def test_bar_shows_the_title_the_count_and_the_time_left(capsys, monkeypatch, quiet):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")
    before = threading.active_count()
    with progress("calibrate", 4, unit="batches", quiet=quiet) as advance:
        threads = threading.active_count()
        for _ in range(4):
            advance(1)
    assert threads == before + (not quiet)
    assert capsys.readouterr().out == ""
    for text in ("calibrate", "4/4", "batches", "left"):
        assert text in terminal.getvalue()


def test_no_line_of_success_after_an_error(capsys):
    with contextlib.suppress(RuntimeError), progress("detect", 2):
        raise RuntimeError
    assert capsys.readouterr().err == ""
