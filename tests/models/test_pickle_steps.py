"""The reader's own machine: rare steps give what Python's gives, or are refused."""

import gc
import io
import pickle
import struct
import zipfile
from collections import OrderedDict
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hostile_files import HEAD, STOP, archive, legacy, storage, tensor, text, whole
from refused import assert_refused
from torch import nn

from yoloq.base.errors import CheckpointError
from yoloq.models.bounds import usual_work
from yoloq.models.unpickle import named_in, read
from yoloq.models.unpickle.zip_file import check_directory

FLOATS = np.array([1, 2, 3, 4], np.float32)
PARTS = {"data/0": FLOATS.tobytes()}
ONE = whole(1)
ORDERED = b"ccollections\nOrderedDict\n"


@pytest.mark.parametrize(
    ("code", "want"),
    [
        pytest.param(b"\x8f(K\x01K\x02\x90.", {1, 2}, id="set"),
        pytest.param(b"(K\x01\x91.", frozenset({1}), id="frozen set"),
        pytest.param(b"(" + text("a") + b"K\x01d.", {"a": 1}, id="dict"),
        pytest.param(b"\x96" + struct.pack("<Q", 3) + b"abc.", bytearray(b"abc"), id="bytearray"),
        pytest.param(b"(K\x01K\x02l.", [1, 2], id="list"),
        pytest.param(ORDERED + b"(((" + text("a") + ONE + b"tttR.", OrderedDict(a=1), id="pairs"),
        pytest.param(
            b"(" + text("a") + ONE + b"\x86" + text("b") + b"l.", [("a", 1), "b"], id="pair"
        ),
    ],
)
def test_steps_that_torch_seldom_writes(code: bytes, want: Any, tmp_path: Path) -> None:
    archive(code)(tmp_path / "a.pt")
    found = read(tmp_path / "a.pt")
    assert found == want == pickle.loads(HEAD + code)
    assert type(found) is type(want)


@pytest.mark.parametrize(
    ("value", "want"),
    [
        (OrderedDict(a=1), OrderedDict(a=1)),
        (np.array(["car", "dog"]), ["car", "dog"]),
        (np.array(["car", 5], object), ["car"]),
        (np.array(["2026-01-01"], "datetime64[D]"), []),
        (np.arange(6, dtype=">i4").reshape(2, 3), [[0, 1, 2], [3, 4, 5]]),
        (np.asfortranarray(np.arange(6).reshape(2, 3)), [[0, 1, 2], [3, 4, 5]]),
        ((1, (2, "x")), (1, (2, "x"))),
    ],
    ids=["ordered", "texts", "objects", "dates", "big-endian", "by columns", "tuples"],
)
def test_plain_data_of_other_trainers(value: Any, want: Any, tmp_path: Path) -> None:
    torch.save({"x": value, ("a", 1): 2}, tmp_path / "a.pt")
    content = read(tmp_path / "a.pt")
    found = content["x"]
    texts = isinstance(value, np.ndarray) and value.dtype.kind in "UOM"
    found = found.texts if texts else found.tensor.tolist() if hasattr(found, "tensor") else found
    assert found == want
    assert content["a", 1] == 2


def test_numbers_that_a_big_endian_machine_wrote(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as out:
        out.writestr("x/data.pkl", HEAD + tensor(4, (4,), (1,)) + STOP)
        out.writestr("x/byteorder", b"big")
        out.writestr("x/data/0", FLOATS.astype(">f4").tobytes())
    assert read(tmp_path / "a.pt").tolist() == [1, 2, 3, 4]


def test_tensors_of_one_storage_share_it(tmp_path: Path) -> None:
    two = tensor(4, (2, 2), (2, 1)) + tensor(4, (2,), (2,), 1)
    archive(b"(" + two + b"l.", PARTS)(tmp_path / "a.pt")
    first, second = read(tmp_path / "a.pt")
    assert (first.tolist(), second.tolist()) == ([[1, 2], [3, 4]], [2, 4])
    first[0, 1] = 9
    assert second[0] == 9


VIEW = b"(" + text("v") + whole(1) + whole(2) + b"t"
KEYS = b"\x80\x02]" + text("0") + b"a." + struct.pack("<q", 4) + FLOATS.tobytes()


def test_views_of_files_before_1_6(tmp_path: Path) -> None:
    view = tensor(4, (2,), (1,), view=VIEW)
    whole_one = tensor(4, (4,), (1,), view=b"N")
    legacy(b"(" + view + view + whole_one + b"l.", KEYS)(tmp_path / "a.pt")
    assert [part.tolist() for part in read(tmp_path / "a.pt")] == [[2, 3], [2, 3], [1, 2, 3, 4]]


def test_sources_of_modules_are_passed_over(tmp_path: Path) -> None:
    module = b"(" + text("module") + b"cmodels.common\nConv\n" + text("a.py") + text("x") + b"tQ"
    legacy(module + b")\x81.", b"\x80\x02].")(tmp_path / "a.pt")
    assert read(tmp_path / "a.pt").path == "models.common.Conv"


def test_a_device_is_no_file() -> None:
    assert_refused(Path("/dev/null"), "not a file; give the .pt file")


def test_a_tensor_of_a_class_of_its_own_is_a_tensor(tmp_path: Path) -> None:
    name = b"ctorch._tensor\n_rebuild_from_type_v2\n("
    inner = b"ctorch._utils\n_rebuild_tensor_v2\nctorch\nTensor\n("
    inner += storage(4) + whole(0) + b"(" + whole(4) + b"t(" + ONE + b"t\x89Nt"
    archive(name + inner + b"}tR.", PARTS)(tmp_path / "a.pt")
    assert read(tmp_path / "a.pt").tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("code", "named"),
    [
        (b"ctorch._tensor\n_rebuild_from_type_v2\n(NN)tR.", "a tensor by an unknown function"),
        (b"cbuiltins\nset\n(K\x05tR.", "a container of a int"),
        (b"ctorch._utils\n_rebuild_tensor_v2\n(N" + ONE + b"))\x89NtR.", "beyond its storage"),
        (
            b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage(4) + whole(0) + b"]]\x89NtR.",
            "a tensor beyond its storage",
        ),
        (
            b"cnumpy\ndtype\n("
            + text("O8")
            + b"tRq\x000cnumpy.core.multiarray\nscalar\n(h\x00C\x01atR.",
            "an array of 'O8'",
        ),
        (
            b"(" + text("storage") + b"ctorch\nFloatStorage\nK\x07" + text("cpu") + ONE + b"tQ.",
            "without a name",
        ),
        (b"K\x01K\x02K\x03s.", "a change to a int"),
        (b"N(K\x01e.", "a change to a NoneType"),
        (b"](K\x01\x90.", "a change to a list"),
        (b"N(K\x01K\x02u.", "a change to a NoneType"),
        (b"((()ttK\x01d.", "a tuple as a key"),
        (b"cdill._dill\n_load_type\n(" + text("CodeType") + b"tR.", "'CodeType'"),
        (b"cdill._dill\n_load_type\n(K\x01tR.", "a type without a name"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_no_checkpoint_asks_for(code: bytes, named: str, tmp_path: Path) -> None:
    archive(code, PARTS)(tmp_path / "a.pt")
    assert_refused(tmp_path / "a.pt", named)


@pytest.mark.parametrize(
    "code",
    [
        b"(" + text("storage") + b"NNNNNtQ.",
        b"(" + text("storage") + b"ctorch\nFloatStorage\n]" + text("cpu") + ONE + b"NtQ.",
        b"(" + storage(2, view=b"N") + storage(4, view=b"N") + b"l.",
        b"NQ.",
    ],
    ids=["kind", "name", "longer", "none"],
)
def test_storages_that_no_file_before_1_6_has(code: bytes, tmp_path: Path) -> None:
    legacy(code, KEYS)(tmp_path / "a.pt")
    with pytest.raises(CheckpointError):
        read(tmp_path / "a.pt")


def test_an_archive_whose_table_is_elsewhere_is_damaged(tmp_path: Path) -> None:
    end = b"PK\x05\x06" + bytes(4) + struct.pack("<HHII", 1, 1, 46, 0) + bytes(2)
    (tmp_path / "a.pt").write_bytes(b"PK\x03\x04" + bytes(60) + end)
    assert_refused(tmp_path / "a.pt", "truncated or damaged (Bad magic number")


@pytest.mark.parametrize(("size", "fits"), [(1000, True), (1 << 40, False)])
def test_the_table_of_an_archive_of_more_than_4_gb(size: int, fits: bool) -> None:
    end = b"PK\x06\x06" + bytes(36) + struct.pack("<Q", size) + bytes(8)
    end += b"PK\x05\x06" + bytes(8) + struct.pack("<II", 0xFFFFFFFF, 0xFFFFFFFF) + bytes(2)
    text = f"table of contents has {size} bytes"
    with nullcontext() if fits else pytest.raises(CheckpointError, match=text):
        check_directory(io.BytesIO(end), len(end))


@pytest.mark.parametrize("enabled", [True, False])
def test_pythons_collector_is_as_it_was(enabled: bool, tmp_path: Path) -> None:
    archive(b"}.")(tmp_path / "a.pt")
    before = gc.isenabled()
    (gc.enable if enabled else gc.disable)()
    try:
        read(tmp_path / "a.pt")
        assert gc.isenabled() is enabled
    finally:
        (gc.enable if before else gc.disable)()


def test_names_of_a_file_are_listed_as_far_as_it_goes(tmp_path: Path) -> None:
    archive(b"cos\nsystem\n0cmodels.yolo\nDetect\n0K\x01.")(tmp_path / "a.pt")
    assert named_in(tmp_path / "a.pt") == ["os.system", "models.yolo.Detect"]


@pytest.mark.parametrize(
    ("module", "fits"),
    [
        (nn.Conv2d(3, 8, 3, padding="same"), True),
        (nn.Conv2d(3, 8, 3, padding=(1, 2)), True),
        (nn.Conv2d(3, 8, 3, padding=50_000), False),
        (nn.ConvTranspose2d(3, 8, 2, 2), True),
        (nn.ConvTranspose2d(3, 8, 2, 10_000), False),
        (nn.ZeroPad2d(3), True),
        (nn.ZeroPad2d((0, 60_000, 0, 60_000)), False),
        (nn.ZeroPad2d((0, 1 << 40, 0, 0)), False),
        (nn.Upsample(size=(64, 64)), True),
        (nn.Upsample(size=(60_000, 60_000)), False),
        (nn.Upsample(scale_factor=2.0), True),
        (nn.UpsamplingNearest2d(scale_factor=30_000), False),
        (nn.AdaptiveAvgPool2d((None, 2)), True),
        (nn.AdaptiveAvgPool2d(60_000), False),
        (nn.ReLU(), True),
    ],
    ids=str,
)
def test_a_module_says_what_it_will_make(module: nn.Module, fits: bool) -> None:
    """A module that fits makes as much as it says; one that does not never runs."""
    image = torch.rand(1, 3, 16, 16)
    refused = pytest.raises(CheckpointError, match="enlarge or repeat an image")
    with nullcontext() if fits else refused, usual_work(module):
        module(image)
