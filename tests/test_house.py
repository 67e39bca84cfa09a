"""Where modules may stand and what they may be called; import-linter holds who imports whom."""

from collections import Counter
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "yoloq"
FILES = [file.relative_to(PACKAGE) for file in PACKAGE.rglob("*.py")]


def test_no_module_lies_loose() -> None:
    loose = {file.name for file in FILES if len(file.parts) == 1}
    assert loose == {"__init__.py", "__main__.py"}


def test_no_two_modules_have_one_name() -> None:
    names = Counter(file.name for file in FILES)
    assert {name for name, times in names.items() if times > 1} == {"__init__.py", "stage.py"}


def test_modules_are_named_for_things() -> None:
    assert [file for file in FILES if file.stem.endswith("ing")] == []
