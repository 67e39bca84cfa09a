"""A few pictures of the built-in set, which pass for all of it: drawing all takes a minute."""

import json
from dataclasses import asdict
from pathlib import Path

from yoloq.data.synthetic import MARKER, Recipe, write_example


def draw_few(folder: Path, train: int, val: int) -> None:
    """Draw the first pictures of both splits into the folder where the whole set would lie."""
    whole = Recipe(seed=0, train=2600, val=520, imgsz=320)
    for split, count in (("train", train), ("val", val)):
        for kind in ("images", "labels"):
            (folder / kind / split).mkdir(parents=True)
        for index in range(count):
            write_example(folder, whole, (split, index))
    (folder / MARKER).write_text(json.dumps(asdict(whole)))
