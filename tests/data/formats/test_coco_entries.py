"""Which entry of a COCO json an image file has."""

from pathlib import Path

import pytest

from yoloq.base.errors import DataError
from yoloq.data.formats.coco.entries import example, match_images

FILE = Path("a.json")


def entries(*names: str) -> list[dict[str, object]]:
    return [{"id": f"id {name}", "file_name": name} for name in names]


@pytest.mark.parametrize(
    ("names", "images", "want"),
    [
        pytest.param(["a.jpg"], ["/s/val/b.jpg", "/s/val/a.jpg"], {"a.jpg": 1}, id="bare names"),
        pytest.param(["val\\a.jpg"], ["/s/val/a.jpg"], {"val\\a.jpg": 0}, id="backslash"),
        pytest.param(
            ["C:\\me\\val\\a.jpg", "C:\\me\\train\\a.jpg"],
            ["/s/val/a.jpg"],
            {"C:\\me\\val\\a.jpg": 0},
            id="a path of Windows",
        ),
        pytest.param(["\u00e9.jpg"], ["/s/e\u0301.jpg"], {"\u00e9.jpg": 0}, id="accent by itself"),
        pytest.param(["./val/a.jpg"], ["/s/val/a.jpg"], {"./val/a.jpg": 0}, id="dot"),
        pytest.param(
            ["x/a.jpg", "y/a.jpg"],
            ["/s/y/a.jpg", "/s/x/a.jpg", "/s/z/a.jpg"],
            {"x/a.jpg": 1, "y/a.jpg": 0},
            id="equal names in folders",
        ),
        pytest.param(
            ["y/a.jpg"], ["/s/x/a.jpg", "/s/y/a.jpg"], {"y/a.jpg": 1}, id="the one in its folder"
        ),
        pytest.param(
            ["a.jpg", "y/a.jpg"],
            ["/s/x/a.jpg", "/s/y/a.jpg"],
            {"a.jpg": 0, "y/a.jpg": 1},
            id="the longer name wins",
        ),
        pytest.param(
            ["val/b.jpg", "train/a.jpg"],
            ["/s/val/a.jpg", "/s/val/b.jpg"],
            {"val/b.jpg": 1},
            id="of another split",
        ),
        pytest.param(
            ["pics/x/a.jpg", "pics/y/a.jpg"],
            ["/s/x/a.jpg", "/s/y/a.jpg"],
            {"pics/x/a.jpg": 0, "pics/y/a.jpg": 1},
            id="written for another folder",
        ),
        pytest.param(
            ["pics/y/a.jpg"],
            ["/s/x/a.jpg", "/s/y/a.jpg"],
            {"pics/y/a.jpg": 1},
            id="another folder, the closest image",
        ),
    ],
)
def test_matches(names: list[str], images: list[str], want: dict[str, int]) -> None:
    found = match_images(FILE, entries(*names), [Path(image) for image in images])
    assert {key: index for key, (index, _) in found.items()} == {
        f"id {name}": index for name, index in want.items()
    }


@pytest.mark.parametrize(
    ("names", "images", "want"),
    [
        pytest.param(
            ["a.jpg"],
            ["/s/x/a.jpg", "/s/y/a.jpg"],
            "a.jpg may be /s/x/a.jpg or /s",
            id="two images",
        ),
        pytest.param(
            ["p/a.jpg", "q/a.jpg"],
            ["/s/x/a.jpg"],
            "/s/x/a.jpg may be p/a.jpg or q",
            id="two entries",
        ),
        pytest.param(
            ["a.jpg", "./a.jpg"], ["/s/a.jpg"], "lists a.jpg twice (ids 'id a", id="twice"
        ),
        pytest.param(["b.jpg"], ["/s/a.jpg"], "none of the images, such as a.jpg", id="none"),
    ],
)
def test_what_is_not_clear_is_an_error(names: list[str], images: list[str], want: str) -> None:
    with pytest.raises(DataError) as caught:
        match_images(FILE, entries(*names), [Path(image) for image in images])
    assert str(caught.value).startswith("a.json: ") and want in str(caught.value)


@pytest.mark.parametrize(
    ("names", "want"),
    [
        pytest.param(
            ["a.PNG"], "val/a.png (the json has a.PNG: upper and lower case differ)", id="c"
        ),
        pytest.param(["x/a.jpg"], "val/a.png (the json has x/a.jpg: another suffix)", id="suffix"),
        pytest.param(
            ["x/a.png"], "val/a.png (the json has x/a.png: in another folder)", id="folder"
        ),
        pytest.param(["other.png"], "z.png", id="no reason"),
        pytest.param([], "z.png", id="an empty list"),
    ],
)
def test_the_likely_reason_is_said(names: list[str], want: str) -> None:
    assert example(entries(*names), [Path("/s/val/z.png"), Path("/s/val/a.png")]) == want
