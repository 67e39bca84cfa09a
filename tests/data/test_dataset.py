"""Data yaml files, good and bad, and what their splits mean."""

import json
import os
import re
from pathlib import Path

import pytest

from yoloq.base.errors import DataError
from yoloq.data.dataset import read_dataset
from yoloq.data.formats.txt import label_file

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
YAML = "path: .\ntrain: images/train\nval: images/val\nnames: [cat, dog]\n"


def _make(folder: Path, text: str = YAML) -> Path:
    """A set of two images a split (files of one byte: nobody decodes them here)."""
    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (folder / kind / split).mkdir(parents=True, exist_ok=True)
        for name in ("b.jpg", "a.JPG"):
            (folder / "images" / split / name).write_bytes(b"x")
            (folder / "labels" / split / name[0]).with_suffix(".txt").write_text("0 .5 .5 1 1")
    file = folder / "data.yaml"
    file.write_text(text)
    return file


def _names(files: tuple[Path, ...]) -> list[str]:
    return [file.name for file in files]


def test_folders(tmp_path: Path) -> None:
    dataset = read_dataset(_make(tmp_path))
    assert dataset.names == ("cat", "dog")
    assert dataset.imgsz is None
    assert dataset.images("val") == (
        tmp_path / "images" / "val" / "a.JPG",
        tmp_path / "images" / "val" / "b.jpg",
    )
    assert len(dataset.images("train")) == 2


@pytest.mark.parametrize(
    ("text", "want"),
    [
        pytest.param("val: images/val", 2, id="one folder, no path"),
        pytest.param("val: images", 4, id="nested folders"),
        pytest.param("val: [images/val, images/train]", 4, id="two folders"),
        pytest.param("val: [images/val, images/val/]", 2, id="the same folder twice"),
        pytest.param("path: images\nval: val", 2, id="relative path"),
        pytest.param("val: ../images/val", 2, id="one level too high, as Roboflow writes it"),
        pytest.param("val: images/val\ndownload: https://example.org/x.zip", 2, id="download"),
        pytest.param("val: images/val\nnc: 2", 2, id="nc that agrees"),
    ],
)
def test_sources(tmp_path: Path, text: str, want: int) -> None:
    file = _make(tmp_path, f"{text}\nnames: {{0: cat, 1: dog}}\n")
    dataset = read_dataset(file)
    assert len(dataset.images("val")) == want
    assert dataset.names == ("cat", "dog")


def test_absolute_path_and_a_yaml_elsewhere(tmp_path: Path) -> None:
    _make(tmp_path / "set")
    file = tmp_path / "mine.yaml"
    file.write_text(YAML.replace("path: .", f"path: {tmp_path / 'set'}"))
    assert len(read_dataset(file).images("val")) == 2


def test_path_relative_to_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _make(tmp_path / "set")
    (tmp_path / "yamls").mkdir()
    (tmp_path / "yamls" / "a.yaml").write_text(YAML.replace("path: .", "path: set"))
    monkeypatch.chdir(tmp_path)
    assert len(read_dataset("yamls/a.yaml").images("val")) == 2


def test_list_file(tmp_path: Path) -> None:
    file = _make(tmp_path, "val: lists/val.txt\nnames: [cat, dog]\n")
    absolute = tmp_path / "images" / "train" / "b.jpg"
    lines = ["./near.jpg", "images/val/b.jpg", "", f"{absolute}\r", "images/val/../val/b.jpg"]
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "near.jpg").write_bytes(b"x")
    (tmp_path / "lists" / "val.txt").write_text("\n".join(lines), encoding="utf-8-sig")
    assert read_dataset(file).images("val") == (
        tmp_path / "lists" / "near.jpg",
        tmp_path / "images" / "val" / "b.jpg",
        absolute,
    )


@pytest.mark.parametrize(
    ("text", "want"),
    [
        pytest.param("path: images\\train\nval: ..\\val", 2, id="path and split"),
        pytest.param("val: images\\val", 2, id="folder"),
        pytest.param("val: ..\\images\\val", 2, id="one level too high"),
        pytest.param("val: [images\\val, images/train]", 4, id="several"),
        pytest.param("val: lists\\val.txt", 2, id="list file"),
        pytest.param("val: many.json", 2, id="COCO json"),
        pytest.param("val: images/val\nannotations: {val: lists\\a.json}", 2, id="annotations"),
    ],
)
def test_names_written_on_windows(tmp_path: Path, text: str, want: int) -> None:
    """In the yaml, in a list of another system's line ends, and in a COCO json."""
    (tmp_path / "lists").mkdir()
    lines = [".\\images\\val\\b.jpg", "..\\images\\val\\a.JPG", "./../images/val/b.jpg", ""]
    (tmp_path / "lists" / "val.txt").write_text("\r\n".join(lines), newline="")
    names = ["images\\val\\b.jpg", "images\\val\\a.JPG"]
    _coco(tmp_path / "many.json", names)
    _coco(tmp_path / "lists" / "a.json", names)
    dataset = read_dataset(_make(tmp_path, f"{text}\nnames: [cat, dog]\n"))
    images = dataset.images("val")
    assert len(images) == want and all(image.is_file() for image in images)
    truth, report = dataset.truth("val", images)
    assert truth.images == want and report.unlisted == 0


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("path: C:\\me\\set\\images\nval: val", id="path"),
        pytest.param("val: D:\\me\\set\\images\\val", id="folder"),
        pytest.param("val: D:/me/set/images/val/", id="slashes"),
        pytest.param("val: C:\\me\\lists\\val.txt", id="list file"),
        pytest.param("val: C:\\me\\many.json", id="COCO json"),
        pytest.param("val: images/val\nannotations: {val: C:\\me\\many.json}", id="annotations"),
    ],
)
def test_names_on_a_drive_of_windows(tmp_path: Path, text: str) -> None:
    """Their ends are looked for here; the images of train have the same names."""
    (tmp_path / "lists").mkdir()
    names = [f"C:\\me\\set\\images\\val\\{name}" for name in ("b.jpg", "a.JPG")]
    (tmp_path / "lists" / "val.txt").write_text("\r\n".join(names), newline="")
    _coco(tmp_path / "many.json", names)
    dataset = read_dataset(_make(tmp_path, f"{text}\nnames: [cat, dog]\n"))
    images = dataset.images("val")
    assert sorted(images) == [tmp_path / "images" / "val" / name for name in ("a.JPG", "b.jpg")]
    assert dataset.truth("val", images)[1].unlisted == 0


def test_a_name_with_a_colon_is_no_drive(tmp_path: Path) -> None:
    file = _make(tmp_path, "val: 'c:val'\nnames: [cat]\n")
    (tmp_path / "val").mkdir()
    with pytest.raises(DataError, match=r"`val`: .*c:val does not exist"):
        read_dataset(file)


def test_a_name_with_a_backslash_of_its_own_is_found(tmp_path: Path) -> None:
    file = _make(tmp_path, "val: 'odd\\name'\nnames: [cat]\n")
    (tmp_path / "odd\\name").mkdir()
    (tmp_path / "odd\\name" / "a.jpg").write_bytes(b"x")
    assert _names(read_dataset(file).images("val")) == ["a.jpg"]


def test_an_accent_in_two_characters_is_found(tmp_path: Path) -> None:
    """As macOS writes names into archives."""
    (tmp_path / "cafe\u0301").mkdir()
    (tmp_path / "cafe\u0301" / "e\u0301.jpg").write_bytes(b"x")
    (tmp_path / "list.txt").write_text("caf\u00e9/\u00e9.jpg\n")
    for entry in ("caf\u00e9", "list.txt"):
        (tmp_path / "d.yaml").write_text(f"val: {entry}\nnames: [cat]\n")
        assert _names(read_dataset(tmp_path / "d.yaml").images("val")) == ["e\u0301.jpg"]


def test_a_link_to_a_folder_around_it_is_not_followed(tmp_path: Path) -> None:
    """Two images stay two; a link to another folder is followed."""
    file = _make(tmp_path)
    (tmp_path / "images" / "val" / "up").symlink_to(tmp_path / "images")
    (tmp_path / "images" / "train" / "other").symlink_to(tmp_path / "images" / "val")
    dataset = read_dataset(file)
    assert len(dataset.images("val")) == 2
    assert _names(dataset.images("train")) == ["a.JPG", "b.jpg", "a.JPG", "b.jpg"]


@pytest.mark.parametrize(
    ("text", "names", "imgsz"),
    [
        pytest.param('nc: "2"\nnames: [cat, dog]', ("cat", "dog"), None, id="nc as text"),
        pytest.param('nc: "2"', ("class0", "class1"), None, id="nc as text, alone"),
        pytest.param('names: {"1": dog, "0": cat}', ("cat", "dog"), None, id="quoted keys"),
        pytest.param('names: {"1": dog, 0: cat}', ("cat", "dog"), None, id="one quoted key"),
        pytest.param("names: [cat, 7]\nimgsz: '320'", ("cat", "7"), 320, id="imgsz as text"),
        pytest.param("names: [cat, Cat]\nimgsz: [320, 320]", ("cat", "Cat"), 320, id="square"),
    ],
)
def test_numbers_and_texts(
    tmp_path: Path, text: str, names: tuple[str, ...], imgsz: int | None
) -> None:
    dataset = read_dataset(_make(tmp_path, f"val: images/val\n{text}\n"))
    assert (dataset.names, dataset.imgsz) == (names, imgsz)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        pytest.param("data.yaml", "", id="yaml"),
        pytest.param("lists.txt", "val: lists.txt\nnames: [cat]", id="list file"),
        pytest.param("a.json", "val: a.json\nnames: [cat]", id="COCO json"),
    ],
)
def test_a_git_lfs_pointer_is_named(tmp_path: Path, name: str, text: str) -> None:
    file = _make(tmp_path, text)
    (tmp_path / name).write_text(POINTER)
    with pytest.raises(DataError) as caught:
        read_dataset(file)
    assert str(caught.value) == (
        f"{tmp_path / name}: is a Git LFS pointer and not the file itself; run `git lfs pull`"
    )


def test_linked_folder_is_followed_and_labels_are_sought_beside_the_link(tmp_path: Path) -> None:
    _make(tmp_path / "real")
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "val").symlink_to(tmp_path / "real" / "images" / "val")
    (tmp_path / "data.yaml").write_text("val: images\nnames: [cat]\n")
    images = read_dataset(tmp_path / "data.yaml").images("val")
    assert label_file(images[0]) == tmp_path / "labels" / "val" / "a.txt"


BROKEN = [
    pytest.param("", "is not a data set yaml", id="empty"),
    pytest.param("just text", "is not a data set yaml", id="text"),
    pytest.param("- a\n- b", "is not a data set yaml", id="a list"),
    pytest.param("depth_multiple: 0.33\nhead: []", "is not a data set yaml", id="model yaml"),
    pytest.param("val: [images", "is not a yaml file .*line", id="not yaml"),
    pytest.param("val: " + "[" * 9000, "is not a yaml file", id="too deep"),
    pytest.param("val: a\tb: c", "is not a yaml file .*line", id="stray tab"),
    pytest.param("train: images/train\nnames: [a]", "has no `val`", id="no val"),
    pytest.param("val:\nnames: [a]", "has no `val`", id="empty val"),
    pytest.param("val: 3\nnames: [a]", "`val` must be a folder", id="val is a number"),
    pytest.param("val: nowhere\nnames: [a]", "`val`: .*nowhere does not", id="missing folder"),
    pytest.param("val: labels\nnames: [a]", "labels: holds no images", id="no images"),
    pytest.param("val: data.yaml\nnames: [a]", "want a folder, a .txt", id="wrong kind of file"),
    pytest.param("path: 3\nval: images\nnames: [a]", "`path` must be", id="path is a number"),
    pytest.param("val: images", "has no `names`", id="no names"),
    pytest.param("val: images\nnames: []", "has no `names`", id="empty names"),
    pytest.param("val: images\nnames: cat", "has no `names`", id="names is a word"),
    pytest.param("val: images\nnames: {1: a, 2: b}", "0 to 1, each once", id="names from 1"),
    pytest.param("val: images\nnames: [a]\nnc: 2", "nc is 2 but `names` has 1", id="nc differs"),
    pytest.param("val: images\nnames: [a]\nnc: two", "nc is two but `names` has 1", id="nc a word"),
    pytest.param("val: images\nnames: [a, b, a]", "`names` has 'a' twice; rename", id="one twice"),
    pytest.param("val: images\nnames: {0: a, '0': b}", "0 to 1, each once", id="a key twice"),
    pytest.param(
        "val: images\nnames: [0: a, 1: b]", "which is no name; write", id="keys in a list"
    ),
    pytest.param("val: images\nnames: [a]\nimgsz: [640, 480]", "sizes are square", id="not square"),
    pytest.param("val: images\nnames: [a]\nimgsz: 0", "`imgsz: 0`: must be above 0", id="imgsz 0"),
    pytest.param(
        'path: "a\\test"\nval: x\nnames: [a]', "`path`: .*write / inst", id="escape in path"
    ),
    pytest.param('val: "images\\val"\nnames: [a]', "write / instead", id="yaml's own escape"),
    pytest.param("val: images\nnames: [a]\nimgsz: big", "`imgsz: big`", id="imgsz is a word"),
    pytest.param("val: images\nnames: [a]\ngenerate: dogs", "`generate: dogs`", id="generate"),
    pytest.param("val: images\nnames: [a]\nannotations: x", "`annotations` must", id="annotations"),
    pytest.param(
        "val: images\nnames: [a]\nannotations: {valid: a.json}",
        "`annotations` has `valid`; splits are train, val, test",
        id="annotations of no split",
    ),
    pytest.param("val: images\nnames: [a]\nkpt_shape: [2, 2]", "has `kpt_shape`.*keep", id="poses"),
    pytest.param("val: empty.txt\nnames: [a]", "empty.txt: holds no images", id="empty list"),
    pytest.param("val: bad.json\nnames: [a]", "bad.json: is not a json file", id="not json"),
    pytest.param("val: deep.json\nnames: [a]", "deep.json: is not a json file", id="deep json"),
    pytest.param("val: list.json\nnames: [a]", "list `images` is missing", id="not COCO json"),
    pytest.param("val: far.json\nnames: [a]", "q.jpg, were not found", id="json without images"),
]


@pytest.mark.parametrize(("text", "want"), BROKEN)
def test_broken_yaml(tmp_path: Path, text: str, want: str) -> None:
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "bad.json").write_text("{")
    (tmp_path / "deep.json").write_text("[" * 100_000)
    (tmp_path / "list.json").write_text("[]")
    _coco(tmp_path / "far.json", ["q.jpg"])
    with pytest.raises(DataError, match=want) as caught:
        read_dataset(_make(tmp_path, text))
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_missing_yaml_and_binary_yaml(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=re.escape("no.yaml: no such file; give the yaml")):
        read_dataset(tmp_path / "no.yaml")
    (tmp_path / "a.yaml").write_bytes(b"\x80\x02\xff")
    with pytest.raises(DataError, match="is not a text file"):
        read_dataset(tmp_path / "a.yaml")


def test_another_split_is_an_error_only_when_used(tmp_path: Path) -> None:
    dataset = read_dataset(_make(tmp_path, YAML.replace("images/train", "gone")))
    assert len(dataset.images("val")) == 2
    with pytest.raises(DataError, match=r"data\.yaml: `train`: .*gone does not exist"):
        dataset.images("train")
    with pytest.raises(DataError, match="has no `test`"):
        dataset.images("test")


@pytest.mark.parametrize(
    ("image", "want"),
    [
        ("/set/images/val/a.jpg", "/set/labels/val/a.txt"),
        ("/images/set/images/a.b.JPG", "/images/set/labels/a.b.txt"),
        ("/set/pictures/a.png", "/set/pictures/a.txt"),
        ("/set/images2/a.png", "/set/images2/a.txt"),
        ("/set/images/images.png", "/set/labels/images.txt"),
    ],
)
def test_label_file(image: str, want: str) -> None:
    assert label_file(Path(image)) == Path(want)


def _coco(file: Path, names: list[str]) -> None:
    images = [{"id": index, "file_name": name} for index, name in enumerate(names)]
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps({"images": images, "annotations": [], "categories": []}))


@pytest.mark.parametrize(
    ("text", "json_file"),
    [
        ("val: annotations/instances_val.json", "annotations/instances_val.json"),
        ("val: annotations/val.json", "annotations/val.json"),
        ("path: images/val\nval: ../../any.json", "any.json"),
        ("val: images/val\nannotations: {val: any.json}", "any.json"),
    ],
)
def test_coco_json(tmp_path: Path, text: str, json_file: str) -> None:
    _coco(tmp_path / json_file, ["b.jpg", "a.JPG"])
    dataset = read_dataset(_make(tmp_path, f"{text}\nnames: [cat]\n"))
    assert sorted(_names(dataset.images("val"))) == ["a.JPG", "b.jpg"]
    assert dataset.annotations == {"val": tmp_path / json_file}


def test_generated_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The set is made in the folder beside the yaml, before its images are looked for."""
    made: list[Path] = []

    def ensure(folder: Path) -> None:
        made.append(folder)
        (folder / "images" / "val").mkdir(parents=True)
        (folder / "images" / "val" / "a.jpg").write_bytes(b"x")

    monkeypatch.setattr("yoloq.data.synthetic.ensure", ensure)
    file = tmp_path / "s.yaml"
    file.write_text("path: cache/s\nval: images/val\ngenerate: synthetic\nimgsz: 320\nnames: [a]\n")
    dataset = read_dataset(file)
    assert made == [tmp_path / "cache" / "s"]
    assert (len(dataset.images("val")), dataset.imgsz) == (1, 320)


def test_hash_follows_the_data_and_not_the_folder(tmp_path: Path) -> None:
    first = _make(tmp_path / "a")
    second = _make(tmp_path / "b")
    digest = read_dataset(first).sha256
    assert read_dataset(second).sha256 == digest
    os.utime(tmp_path / "b" / "images" / "val" / "b.jpg", (1, 1))
    assert read_dataset(second).sha256 == digest


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("data.yaml", YAML + "# a remark\n"),
        ("images/val/b.jpg", "xx"),
        ("images/train/b.jpg", "y"),
        ("images/train/c.jpg", "x"),
        ("labels/val/a.txt", "1 .5 .5 1 1"),
    ],
)
def test_hash_sees_a_change_in(tmp_path: Path, file: str, text: str) -> None:
    yaml = _make(tmp_path)
    before = read_dataset(yaml).sha256
    changed = tmp_path / file
    times = changed.stat() if changed.exists() else None
    changed.write_text(text)
    if times:  # as where a file system counts in seconds
        os.utime(changed, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert read_dataset(yaml).sha256 != before


def test_hash_sees_another_order_of_a_list(tmp_path: Path) -> None:
    """Detections are kept by position."""
    file = _make(tmp_path, "val: val.txt\nnames: [cat, dog]\n")
    digests = set()
    for names in (("a.JPG", "b.jpg"), ("b.jpg", "a.JPG")):
        (tmp_path / "val.txt").write_text("\n".join(f"images/val/{name}" for name in names))
        digests.add(read_dataset(file).sha256)
    assert len(digests) == 2


def test_coco_mini(coco_mini: Path) -> None:
    dataset = read_dataset(coco_mini / "data.yaml")
    assert len(dataset.names) == 80
    assert (len(dataset.images("train")), len(dataset.images("val"))) == (288, 158)
