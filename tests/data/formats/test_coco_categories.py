"""Categories of a COCO json and the names of a data yaml."""

import re
from pathlib import Path
from typing import Any

import pytest

from yoloq.base.errors import DataError
from yoloq.data.formats.coco.categories import match_categories

FILE = Path("a.json")


def document(categories: dict[Any, str], used: Any = None) -> dict[str, Any]:
    return {
        "categories": [{"id": identity, "name": name} for identity, name in categories.items()],
        "annotations": [{"category_id": i} for i in (categories if used is None else used)],
    }


@pytest.mark.parametrize(
    ("categories", "used", "names", "want"),
    [
        pytest.param({3: "dog", 9: "cat"}, None, ["cat", "dog"], {3: 1, 9: 0}, id="other order"),
        pytest.param({1: "Dog "}, None, ["cat", "dog"], {1: 1}, id="case and blanks"),
        pytest.param(
            {1: "Dog", 2: "dog"}, None, ["dog", "Dog"], {1: 1, 2: 0}, id="case tells them apart"
        ),
        pytest.param(
            {0: "things", 1: "cat", 2: "dog"},
            [1, 2, 1],
            ["cat", "dog"],
            {1: 0, 2: 1},
            id="a parent that nothing uses",
        ),
        pytest.param(
            {0: "cat", 1: "cat", 2: "dog"},
            [1, 2],
            ["cat", "dog"],
            {1: 0, 2: 1},
            id="a parent of the same name",
        ),
        pytest.param({1: "x", 2: "cat"}, [2], ["a", "cat"], {2: 1}, id="unknown and not used"),
        pytest.param({1: "cat"}, [], ["cat"], {}, id="no annotation"),
        pytest.param({"b": "dog", "a": "cat"}, None, ["cat", "dog"], {"b": 1, "a": 0}, id="words"),
    ],
)
def test_by_name(
    categories: dict[Any, str], used: Any, names: list[str], want: dict[Any, int]
) -> None:
    assert match_categories(FILE, document(categories, used), names) == (want, "")


@pytest.mark.parametrize(
    ("categories", "used", "names", "want"),
    [
        pytest.param({8: "Hund", 5: "Katze"}, None, ["cat", "dog"], {5: 0, 8: 1}, id="all listed"),
        pytest.param({8: "Hund", 5: "Katze"}, [8], ["cat", "dog"], {5: 0, 8: 1}, id="one used"),
        pytest.param(
            {0: "alle", 5: "Katze", 8: "Hund"}, [5, 8], ["cat", "dog"], {5: 0, 8: 1}, id="all used"
        ),
        pytest.param(
            {str(i): f"Art {i}" for i in (10, 9, 1)},
            None,
            ["cat", "dog", "cow"],
            {"1": 0, "9": 1, "10": 2},
            id="quoted ids are numbers",
        ),
        pytest.param({1: "cat", 2: "Hund"}, None, ["cat", "dog"], {1: 0, 2: 1}, id="one confirms"),
    ],
)
def test_by_order_where_the_counts_agree_and_it_is_said(
    categories: dict[Any, str], used: Any, names: list[str], want: dict[Any, int]
) -> None:
    found, remark = match_categories(FILE, document(categories, used), names)
    assert found == want
    assert remark.startswith(
        "a.json: categories are not named as in the data yaml and are taken in"
    )


def test_the_pairs_of_an_order_are_listed() -> None:
    _, remark = match_categories(FILE, document({1: "cat", 2: "Hund"}), ["cat", "dog"])
    assert "ids: 'Hund' as 'dog'; mend" in remark


@pytest.mark.parametrize(
    ("categories", "used", "names", "want"),
    [
        pytest.param({1: "Katze", 2: "dog"}, None, ["dog", "cat"], "'Katze' is", id="contradicts"),
        pytest.param({1: "Katze"}, None, ["cat", "dog"], "'Katze' is not in the", id="too few"),
        pytest.param(
            {0: "alle", 1: "Katze", 2: "Hund"}, [1], ["cat", "dog"], "'Katze' is", id="fewer used"
        ),
        pytest.param({1: "a", 2: "b"}, None, ["x"], "'a' is not in", id="too many"),
        pytest.param({1: "DOG"}, None, ["dog", "Dog"], "'DOG' is not in", id="case does not tell"),
        pytest.param(
            {1: "Dog", 2: "dog"},
            None,
            ["dog"],
            "'Dog' is not in",
            id="two of one name but for case",
        ),
        pytest.param(
            {4: "cat", 7: "cat"}, None, ["cat"], "4 and 7 are both named 'cat'", id="named twice"
        ),
    ],
)
def test_what_does_not_fit(
    categories: dict[Any, str], used: Any, names: list[str], want: str
) -> None:
    with pytest.raises(DataError, match=re.escape(want)) as caught:
        match_categories(FILE, document(categories, used), names)
    assert str(caught.value).startswith("a.json: ") and ";" in str(caught.value)


def test_all_are_one_class() -> None:
    found = match_categories(FILE, document({4: "cat", 7: "cat", 9: "x"}), None)
    assert found == ({4: 0, 7: 0, 9: 0}, "")
