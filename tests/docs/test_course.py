"""The course runs as it stands, and its exercises are tested by what stands behind them."""

import re

import pytest
from doc_pages import DOCS, blocks

COURSE = DOCS / "course.md"
ORDER = ["Fixed-point", "Scale and zero-point", "Calibrators"]
ORDER += ["The straight-through estimator", "Placement"]


@pytest.mark.usefixtures("one_thread")
def test_the_course_runs() -> None:
    """All blocks in order, the exercises with their answers."""
    space: dict[str, object] = {}
    for text in blocks(COURSE, "python"):
        exec(compile(text, str(COURSE), "exec"), space)


def test_the_lessons_are_in_order() -> None:
    assert re.findall(r"^## \d\. (.+)$", COURSE.read_text(), re.M) == ORDER


def test_each_exercise_has_an_answer_and_a_test() -> None:
    exercises = re.split(r"^\*\*Exercise \d\.\*\*", COURSE.read_text(), flags=re.M)[1:]
    assert len(exercises) == len(ORDER)
    for text in exercises:
        exercise = re.split(r"^## ", text, flags=re.M)[0]
        answer, _, test = exercise.partition("</details>")
        assert "```python" in answer
        assert "assert " in test and "assert " not in answer
