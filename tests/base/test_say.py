"""The bar on a terminal, the line elsewhere."""

import contextlib
import io
import sys
import threading

import pytest

from yoloq.base.say import phases, progress


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


def test_phases_are_drawn_below_their_title(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")
    with phases("build") as drawn:
        drawn.start("outer", None, 2)
        drawn.start("inner", "outer", 3)
        drawn.step("inner", 2)
        drawn.bar.refresh()
        assert [task.description for task in drawn.bar.tasks] == ["build", "  outer", "    inner"]
        assert [task.completed for task in drawn.bar.tasks] == [0, 0, 2]
        drawn.finish("inner")
        drawn.start("next", "outer", 1)
        drawn.step("unknown", 1)
        drawn.finish("unknown")
        assert [task.description for task in drawn.bar.tasks] == ["build", "  outer", "    next"]
    assert "2/3" in terminal.getvalue()


@pytest.mark.parametrize("name", ["fastest tactic for {ForeignNode[/a]}", "[bold]x", "[b"])
def test_names_are_shown_as_they_are(name, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")
    with phases(f"build {name}") as drawn:
        drawn.start(name, None, 2)
        drawn.step(name, 1)
        drawn.bar.refresh()
    with progress(f"run {name}", 1) as advance:
        advance(1)
    for text in (f"build {name}", f"  {name}", f"run {name}"):
        assert text in terminal.getvalue()


def test_phases_are_one_line_elsewhere(capsys):
    with phases("build") as drawn:
        drawn.start("outer", None, 2)
        drawn.step("outer", 1)
        drawn.finish("outer")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("build: ")
    with contextlib.suppress(RuntimeError), phases("build"):
        raise RuntimeError
    assert capsys.readouterr().err == ""
