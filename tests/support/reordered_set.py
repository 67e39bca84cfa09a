"""A data set as another person would have written it: other order, names and label format."""

import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import yaml


def reordered(
    data: Path,
    folder: Path,
    order: Sequence[int],
    rename: Callable[[str], str] = str,
    as_json: bool = False,
) -> Path:
    """Write a copy of a set with txt labels; returns its yaml.

    Args:
        data: the yaml; its `names` are a list.
        order: the class of the original at each number of the copy.
        rename: what the copy calls a class.
        as_json: labels in one COCO json a split, names with backslashes, ids from the end.
    """
    document = yaml.safe_load(data.read_text())
    source = Path(document["path"])
    names = [rename(document["names"][number]) for number in order]
    document |= {"path": str(folder), "names": names}
    for split in ("train", "val"):
        shutil.copytree(source / document[split], folder / document[split])
        rows = _rows(source / document[split])
        if as_json:
            file = folder / f"{split}.json"
            file.write_text(json.dumps(_coco(folder / document[split], rows, names, order)))
            document.setdefault("annotations", {})[split] = file.name
            continue
        for name, boxes in rows.items():
            label = folder / "labels" / split / f"{name}.txt"
            label.parent.mkdir(parents=True, exist_ok=True)
            lines = [f"{order.index(number)} {' '.join(xywh)}\n" for number, *xywh in boxes]
            label.write_text("".join(lines))
    (folder / "data.yaml").write_text(yaml.safe_dump(document, allow_unicode=True))
    return folder / "data.yaml"


def _rows(images: Path) -> dict[str, list[list]]:
    """Class number and the rest of each label row, by the name of the image."""
    found = {}
    for image in sorted(images.iterdir()):
        text = Path(str(image).replace("images", "labels")).with_suffix(".txt").read_text()
        split = [line.split() for line in text.splitlines()]
        found[image.stem] = [[int(number), *xywh] for number, *xywh in split]
    return found


def _coco(images: Path, rows: dict[str, list], names: list[str], order: Sequence[int]) -> dict:
    """A COCO json whose categories stand in the original's order."""
    entries, annotations = [], []
    for index, image in enumerate(sorted(images.iterdir())):
        height, width = cv2.imread(str(image)).shape[:2]
        name = f"{images.name}\\{image.name}"
        entries.append({"id": 900 - index, "file_name": name, "width": width, "height": height})
        for number, *xywh in rows[image.stem]:
            x, y, w, h = (float(value) for value in xywh)
            box = [(x - w / 2) * width, (y - h / 2) * height, w * width, h * height]
            annotations.append({"image_id": 900 - index, "category_id": 50 - number, "bbox": box})
    categories = [
        {"id": 50 - number, "name": names[place]}
        for place, number in sorted(enumerate(order), key=lambda pair: pair[1])
    ]
    return {"images": entries, "annotations": annotations, "categories": categories}


def overwrite(file: Path, content: bytes) -> None:
    """Another content of the same size at the same time, as a coarse clock would show it."""
    before = file.stat()
    assert len(content) == before.st_size
    file.write_bytes(content)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
