"""Where modules may stand and what they may be called; import-linter holds who imports whom."""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from yoloq.__main__ import STAGES

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


def test_no_text_says_make_where_a_wheel_has_yoloq() -> None:
    told = re.compile(rf"\bmake ({'|'.join(STAGES)})\b")
    found = [
        f"{file}: {text}" for file in FILES for text in texts(PACKAGE / file) if told.search(text)
    ]
    assert found == []


def texts(file: Path) -> Iterator[str]:
    """Strings of a module that are said to users: all but those that stand alone as docstrings."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    alone = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in alone:
            yield node.value
