"""Make's variables as flags of a stage."""

import pytest

from yoloq.base.variables import as_flags


@pytest.mark.parametrize(
    ("words", "flags"),
    [
        ([], []),
        (["--weights", "a.pt"], ["--weights", "a.pt"]),
        (["WEIGHTS=a b.pt", "IMGSZ=640 480"], ["--weights", "a b.pt", "--imgsz", "640 480"]),
        (["NAME=", "ARGS="], []),
        (
            ["ARGS=--keep-float 'model.[0-5]' x --force", "NAME=r"],
            ["--keep-float", "model.[0-5]", "x", "--force", "--name", "r"],
        ),
        (["RUNS=a 'b c'"], ["--runs", "a", "b c"]),
        (["--amax", "model.8.cv1=4.2", "x=y"], ["--amax", "model.8.cv1=4.2", "x=y"]),
        (["DATA=a=b\n.yaml"], ["--data", "a=b\n.yaml"]),
    ],
    ids=["none", "flags", "variables", "empty", "ARGS", "RUNS", "values", "odd name"],
)
def test_variables_are_flags(words: list[str], flags: list[str]) -> None:
    assert list(as_flags(words)) == flags
