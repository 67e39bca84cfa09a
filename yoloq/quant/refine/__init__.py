"""Repairing a calibrated network with what calibration images show: no labels, no training.

A repair is a file of this folder whose `repair(block, steps)` changes the quantized network's
weights or biases in place. To add one: write the file, add a row to `REPAIRS`. Those of `MOVES`
change the float network before it is calibrated; a user names both with one flag.
"""

from collections.abc import Iterable

from yoloq.base.errors import DataError
from yoloq.quant.moved import MOVES

REPAIRS = {  # name of the file -> the fewest images it can do with; in the order they are applied
    "gptq": 1,
    "adaround": 8,
    "block": 8,
    "bias": 1,
}

NAMES = MOVES | REPAIRS


def read_repairs(text: str) -> tuple[str, ...]:
    """Names of moves and repairs in a text, in the order of application; `none`: no repair.

    Raises:
        ValueError: there is none of a name.
    """
    names = [name for name in text.replace(",", " ").split() if name != "none"]
    for name in names:
        if name not in NAMES:
            raise ValueError(f"{name!r} is not one of none, {', '.join(NAMES)}")
    return tuple(name for name in NAMES if name in names)


def check_images(names: Iterable[str], count: int) -> None:
    """Find too few images.

    Raises:
        DataError: a repair needs more; says how many.
    """
    for name in names:
        if count < NAMES[name]:
            raise DataError(
                f"--refine {name}: needs {NAMES[name]} calibration images at least, not {count}; "
                "raise --images and --refine-images"
            )
