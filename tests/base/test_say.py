"""The bar on a terminal, the line elsewhere."""

import contextlib
import io
import sys
import threading

import pytest

from yoloq.base.say import (
    Voice,
    fail,
    phases,
    progress,
    put,
    result_console,
    say,
    speaking,
    warn,
)


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


def test_quiet_leaves_warnings_errors_and_the_result(capsys, monkeypatch):
    with speaking(Voice(quiet=True)):
        say("going on")
        with progress("detect", 2) as advance:
            advance(2)
        with phases("build"):
            pass
        warn("mend it")
        fail("no such file")
        put("42 boxes")
    said = capsys.readouterr()
    assert said.err.splitlines() == ["warning: mend it", "error: no such file"]
    assert said.out == "42 boxes\n"
    say("again")
    assert capsys.readouterr().err == "again\n"


def test_quiet_draws_no_bar_on_a_terminal(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with speaking(Voice(quiet=True)), progress("detect", 2) as advance:
        advance(2)
    assert terminal.getvalue() == ""


def test_a_result_leaves_stdout_to_the_one_object(capsys):
    with speaking(Voice(json=True)):
        put("42 boxes")
        result_console().print("a table")
    said = capsys.readouterr()
    assert said.out == "" and said.err.split("\n") == ["42 boxes", "a table", ""]


@pytest.mark.parametrize(
    ("variable", "value", "line"),
    [
        ("TERM", "xterm", "\033[33mwarning\033[0m: mend it\n"),
        ("NO_COLOR", "1", "warning: mend it\n"),
        ("NO_COLOR", "", "\033[33mwarning\033[0m: mend it\n"),
        ("TERM", "dumb", "warning: mend it\n"),
    ],
)
def test_colours_are_for_terminals_that_want_them(monkeypatch, capsys, variable, value, line):
    terminal = Terminal()
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv(variable, value)
    warn("mend it")
    assert capsys.readouterr().err == "warning: mend it\n"
    monkeypatch.setattr(sys, "stderr", terminal)
    warn("mend it")
    assert terminal.getvalue() == line


def test_what_has_no_known_end_is_counted(capsys):
    with progress("predict", None, "frames") as advance:
        advance(3)
        advance(4)
    assert capsys.readouterr().err.startswith("predict: 7 frames, ")
