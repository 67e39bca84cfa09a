"""Image sizes as users write them."""

from typing import Any

import pytest

from yoloq.base.square import side_of


@pytest.mark.parametrize(
    ("size", "want"),
    [
        (640, 640),
        ("640", 640),
        (" 640 640 ", 640),
        ("640x640", 640),
        ("[640, 640]", 640),
        ([640, 640], 640),
        ((640,), 640),
        (["640", 640], 640),
        (0, 0),
    ],
)
def test_side(size: Any, want: int) -> None:
    assert side_of(size) == want


@pytest.mark.parametrize(
    ("size", "want"),
    [
        ([640, 480], "sizes are square: .* give one side, such as 640"),
        ("480 640", "sizes are square: .* give one side, such as 640"),
        ("big", "whole number"),
        ("-1", "whole number"),
        (1.5, "whole number"),
        (True, "whole number"),
        ("", "whole number"),
        ([], "whole number"),
        ([[640], 640], "whole number"),
        ("1 1 1", "whole number"),
    ],
)
def test_no_side(size: Any, want: str) -> None:
    with pytest.raises(ValueError, match=want):
        side_of(size)
