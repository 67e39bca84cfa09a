"""The Python lines of the pages run as they stand, with the files that they name."""

from pathlib import Path

import pytest
from doc_pages import DOCS, blocks
from tiny_set import TinySet


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("page", ["SKILL.md", "python.md"])
def test_lines_run(
    page: str, tiny: TinySet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino")
    images = tiny.data.parent / "images" / "train"
    named = {
        "w.pt": tiny.weights,
        "yolov5s.pt": tiny.weights,
        "coco.yaml": tiny.data,
        "images/train": images,
        "coco/images/train2017": images,
        "photo.jpg": next(images.iterdir()),
    }
    for name, target in named.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).symlink_to(target)
    monkeypatch.chdir(tmp_path)
    [lines] = blocks(DOCS / page, "python")
    exec(compile(lines, page, "exec"), {})
    assert list(tmp_path.glob("engines/openvino-int8.*"))
