"""The commands that made the run."""

from yoloq.report.run_folder import RunFolder
from yoloq.report.section import Section


def to_repeat(run: RunFolder) -> Section:
    """A `make` line a stage, with all options that are not the default."""
    words = ("A finished stage with the same inputs is reused; ARGS=--force redoes it.",)
    lines = (*run.commands, run.command("report"))
    return Section(words, lines=lines, data=list(lines))
