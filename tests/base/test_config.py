"""Options come from the dataclass alone, and mistakes in them are one line."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from yoloq.base.config import StageConfig, option, parse
from yoloq.base.errors import UserError


@dataclass(frozen=True)
class Example(StageConfig):
    """An example of a stage."""

    kind: str = option("a", "what kind", ("a", "b"))
    patterns: tuple[str, ...] = option((), "some names")
    fast: bool = option(True, "be fast")


def test_flags_set_the_fields_of_the_dataclass() -> None:
    config = parse(Example, ["--kind", "b", "--patterns", "x", "y", "--no-fast", "--imgsz", "96"])
    assert (config.kind, config.patterns, config.fast, config.imgsz) == ("b", ("x", "y"), False, 96)


def test_defaults_are_those_of_the_dataclass() -> None:
    assert parse(Example, []) == Example()


@pytest.mark.parametrize(
    "flags",
    [["--imgsz", "96"], ["--imgsz=96"], ["--imgsz", "96", "96"], ["--imgsz", "96,96"]],
    ids=" ".join,
)
def test_a_square_size_is_one_side(flags: list[str]) -> None:
    config = parse(Example, [*flags, "--kind", "b"])
    assert (config.imgsz, config.kind) == (96, "b")


def test_the_run_folder_is_named_after_weights_and_data() -> None:
    config = Example(weights="a/best.pt", data="b/coco.yaml", project="p")
    assert config.folder == Path("p/best-coco")
    assert Example(project="p", name="mine").folder == Path("p/mine")


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--kind", "c"], "--kind"),
        (["--imgsz", "big"], "--imgsz"),
        (["--imgsz", "-1"], "--imgsz -1"),
        (["--imgsz", "640", "480"], "--imgsz 640 480: sizes are square: an engine has one input"),
        (["--imgsz", "640,480"], "--imgsz 640,480: sizes are square"),
        (["--imgsz", "480x640"], "give one side, such as 640"),
        (["--imgsz", "1", "2", "3"], "--imgsz 1 2 3: must be a whole number"),
        (["--imgsz"], "--imgsz"),
        (["--batch-size", "0"], "--batch-size 0"),
        (["--workers", "-1"], "--workers -1"),
        (["--imgsz", "320000"], "--imgsz 320000"),
        (["--seed", "-1"], "--seed -1"),
        (["--name", "../a"], "--name ../a"),
        (["--name", "/a"], "--name /a"),
        (["--no-such-flag"], "--no-such-flag"),
        (["--kin", "a"], "--kin"),
    ],
    ids=lambda value: "=".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_flag_is_named_in_one_line(flags: list[str], named: str) -> None:
    with pytest.raises(UserError) as error:
        parse(Example, flags)
    assert named in str(error.value)
    assert "\n" not in str(error.value)
