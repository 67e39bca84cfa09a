"""Repairing a calibrated network with what calibration images show: no labels, no training.

A repair is a file of this folder whose `repair(block, steps)` changes the quantized network's
weights or biases in place. To add one: write the file, add a row to `REPAIRS`.
"""

from collections.abc import Iterable

from yoloq.base.errors import DataError

REPAIRS = {  # name of the file -> the fewest images it can do with; in the order they are applied
    "gptq": 1,
    "adaround": 8,
    "block": 8,
    "bias": 1,
}


def read_repairs(text: str) -> tuple[str, ...]:
    """Names of repairs in a text, in the order in which they are applied; `none`: no repair.

    Raises:
        ValueError: there is none of a name.
    """
    names = [name for name in text.replace(",", " ").split() if name != "none"]
    for name in names:
        if name not in REPAIRS:
            raise ValueError(f"{name!r} is not one of none, {', '.join(REPAIRS)}")
    return tuple(name for name in REPAIRS if name in names)


def check_images(names: Iterable[str], count: int) -> None:
    """Find too few images.

    Raises:
        DataError: a repair needs more; says how many.
    """
    for name in names:
        if count < REPAIRS[name]:
            raise DataError(
                f"--refine {name}: needs {REPAIRS[name]} calibration images at least, not {count}; "
                "raise --images and --refine-images"
            )
