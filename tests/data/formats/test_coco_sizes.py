"""Image sizes in a COCO json that are not those of the files."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from yoloq.base.errors import DataError
from yoloq.data.formats.coco import read

WIDE = (40, 80)  # height, width of every file
INSIDE = (5, 5, 20, 10)  # x, y, width, height: fits both ways round
RIGHT = (50, 5, 20, 10)  # fits what is wide
LOW = (5, 50, 20, 10)  # fits what is tall


def write(folder: Path, said: list[tuple[int, int] | None], boxes: list[tuple[int, ...]]) -> Path:
    """Images of 80 x 40, each with the size that the json says and a box."""
    images, annotations = [], []
    for index, (size, box) in enumerate(zip(said, boxes, strict=True)):
        cv2.imwrite(str(folder / f"{index:02}.png"), np.zeros((*WIDE, 3), np.uint8))
        entry = {"id": index, "file_name": f"{index:02}.png"}
        if size:
            entry |= {"height": size[0], "width": size[1]}
        images.append(entry)
        annotations.append({"id": index, "image_id": index, "category_id": 1, "bbox": list(box)})
    categories = [{"id": 1, "name": "cat"}]
    file = folder / "a.json"
    document = {"images": images, "annotations": annotations, "categories": categories}
    file.write_text(json.dumps(document))
    return file


def read_all(file: Path):
    return read(file, ["cat"], sorted(file.parent.glob("*.[pj][np]g")))


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(WIDE, id="equal"),
        pytest.param((41, 78), id="rounded"),
        pytest.param(None, id="not said"),
    ],
)
def test_nothing_is_said_where_nothing_is_wrong(tmp_path: Path, said) -> None:
    truth, report = read_all(write(tmp_path, [said], [RIGHT]))
    assert truth.boxes.tolist() == [[50, 5, 70, 15]]
    assert report.lines() == []


@pytest.mark.parametrize(
    ("said", "box", "want"),
    [
        pytest.param(
            (80, 40), INSIDE, "80 x 40, in the json 40 x 80: width and height are", id="s"
        ),
        pytest.param((80, 40), LOW, "width and height are swapped", id="swapped, boxes too"),
        pytest.param((80, 160), INSIDE, "the file has 0.5 times the size; give", id="shrunk"),
        pytest.param((20, 40), INSIDE, "the file has 2 times the size; give", id="enlarged"),
        pytest.param((60, 60), INSIDE, "it is another picture", id="another picture"),
    ],
)
def test_sizes_of_other_pixels_are_an_error(tmp_path: Path, said, box, want: str) -> None:
    file = write(tmp_path, [said] * 3, [box] * 3)
    with pytest.raises(DataError) as caught:
        read_all(file)
    begin = f"{file}: 3 of 3 images are not as large as it says, such as {tmp_path / '00.png'}: "
    assert str(caught.value).startswith(begin) and want in str(caught.value)


def test_half_of_the_entries_swapped_is_an_error(tmp_path: Path) -> None:
    file = write(tmp_path, [WIDE, (80, 40)] * 2, [INSIDE] * 4)
    with pytest.raises(DataError, match=r"2 of 4 images are not as large .*01\.png: 80 x 40"):
        read_all(file)


def test_boxes_that_fit_the_files_alone_are_taken(tmp_path: Path) -> None:
    """Nothing of them is cut off at the wrong width."""
    truth, report = read_all(write(tmp_path, [WIDE, (80, 40), (80, 40)], [RIGHT, RIGHT, INSIDE]))
    assert truth.boxes.tolist() == [[50, 5, 70, 15], [50, 5, 70, 15], [5, 5, 25, 15]]
    [line] = report.lines()
    assert "01.png: 80 x 40, in the json 40 x 80" in line
    assert line.endswith("(the boxes fit the files and are taken as they are)")


def test_a_box_or_two_across_the_edge_prove_nothing(tmp_path: Path) -> None:
    over = (5, 5, 38, 10)  # ends 3 pixels outside what the json says
    file = write(tmp_path, [(20, 40)] * 12, [over, *[(5, 5, 20, 10)] * 11])
    with pytest.raises(DataError, match="12 of 12 images"):
        read_all(file)


def test_one_of_many_is_a_warning(tmp_path: Path) -> None:
    _, report = read_all(write(tmp_path, [(80, 40)] + [WIDE] * 10, [INSIDE] * 11))
    [line] = report.lines()
    assert "1 of 11 images are not as large as it says" in line and "00.png" in line


@pytest.mark.parametrize(
    ("said", "box", "want"),
    [
        pytest.param(WIDE, (60, 20, 40, 30), "images of another size; scale them", id="twice"),
        pytest.param(None, (60, 20, 40, 30), "images of another size; scale them", id="unknown"),
        pytest.param(WIDE, (10, 25, 8, 40), "x and y, width and height seem to be sw", id="turned"),
        pytest.param(WIDE, (-9, 5, 20, 10), "images of another size; scale them", id="left"),
    ],
)
def test_boxes_that_reach_out_of_the_images_are_named(tmp_path: Path, said, box, want) -> None:
    file = write(tmp_path, [said] * 8, [INSIDE, *[box] * 7])
    [line] = read_all(file)[1].lines()
    numbers = ", ".join(map(str, box))
    assert line.startswith(f"{file}: 7 of 8 boxes reach out of their images, such as {numbers} of ")
    assert f"{tmp_path / '01.png'}, 80 x 40: " in line and want in line


def test_a_few_boxes_across_the_edge_are_cut_off_without_a_word(tmp_path: Path) -> None:
    truth, report = read_all(write(tmp_path, [WIDE] * 11, [(70, 5, 20, 10), *[INSIDE] * 10]))
    assert report.lines() == [] and truth.boxes[0].tolist() == [70, 5, 80, 15]


def test_sizes_in_quotes_are_read(tmp_path: Path) -> None:
    file = write(tmp_path, [("80", "160")] * 3, [INSIDE] * 3)
    with pytest.raises(DataError, match=r"80 x 40, in the json 160 x 80: the file has 0.5 times"):
        read_all(file)


def test_photographs_that_exif_turns(tmp_path: Path) -> None:
    """The json has the size and the boxes of the pixels as they are stored."""
    from PIL import Image as Pillow

    file = write(tmp_path, [(80, 40)], [LOW])
    (tmp_path / "00.png").unlink()
    picture = Pillow.new("RGB", (40, 80))
    exif = picture.getexif()
    exif[0x0112] = 6
    picture.save(tmp_path / "00.jpg", exif=exif)
    file.write_text(file.read_text().replace("00.png", "00.jpg"))
    with pytest.raises(DataError, match=r"00\.jpg: 80 x 40, in the json 40 x 80: EXIF turns the"):
        read_all(file)
