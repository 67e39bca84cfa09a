"""Reading PyTorch files: what is no checkpoint, hostile ones, and the forms of plain values."""

import os
import pickle
import sys
import zipfile

import numpy as np
import pytest
import torch
from pickled_models import original_classes, random_net, save_as_yolov5, tiny
from refused import assert_refused
from torch import nn

from yoloq.models.unpickle import Stub, read

pytestmark = pytest.mark.usefixtures("one_thread")


# Files that are no checkpoint


def truncated(file, share):
    save_as_yolov5(file, random_net(tiny(2)))
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * share)])


def truncated_legacy(file):
    save_as_yolov5(file, random_net(tiny(2)), _use_new_zipfile_serialization=False)
    file.write_bytes(file.read_bytes()[:-1000])


def broken_pickle(file):
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}q")
        archive.writestr("archive/version", b"3\n")


def torchscript(file):
    torch.jit.save(torch.jit.script(nn.Linear(1, 1)), file)


def other_zip(file):
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("readme.txt", "hello")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch.jit
@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda file: None, "no such file"),
        (lambda file: file.mkdir(), "a folder"),
        (lambda file: file.touch(), "empty"),
        (lambda file: file.write_text("backbone: []\n" * 99), "not a PyTorch checkpoint"),
        (lambda file: file.write_bytes(pickle.dumps({"a": 1})), "not a PyTorch checkpoint"),
        (lambda file: truncated(file, 0.5), "truncated"),
        (lambda file: truncated(file, 0.001), "truncated"),
        (truncated_legacy, "truncated or damaged"),
        (broken_pickle, "truncated or damaged"),
        (torchscript, "TorchScript"),
        (other_zip, "not a PyTorch checkpoint"),
        (lambda file: torch.save(nn.Linear(1, 1).state_dict(), file), "only plain data"),
        (lambda file: torch.save({"model": {"a": torch.ones(1)}}, file), "only plain data"),
        (lambda file: torch.save([1, 2], file), "only plain data"),
        (lambda file: torch.save({"yoloq": 1, "meta": "{"}, file), "cannot be rebuilt"),
        (lambda file: torch.save(nn.Linear(1, 1), file), "holds a torch.nn.modules.linear.Linear"),
    ],
    ids=[
        "missing",
        "folder",
        "empty",
        "text",
        "plain-pickle",
        "half",
        "first-bytes",
        "truncated-legacy",
        "broken-pickle",
        "torchscript",
        "other-zip",
        "state-dict",
        "nested-state-dict",
        "list",
        "own-broken",
        "other-module",
    ],
)
def test_files_that_are_no_checkpoint(tmp_path, make, text):
    file = tmp_path / "weights.pt"
    make(file)
    assert_refused(file, text)


def test_a_file_of_arrays_is_named_as_one(tmp_path):
    """Where it is read as a checkpoint: those of yoloq are known before."""
    other_zip(tmp_path / "weights.npz")
    assert_refused(tmp_path / "weights.npz", "arrays, no PyTorch checkpoint")


# Hostile files: what they ask for must not happen, and the error names it


class Payload:
    """Pickles as a call of `function(*arguments)`."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    ("payload", "named"),
    [
        (lambda file: Payload(os.system, f"touch {file}"), "posix.system"),
        (lambda file: Payload(eval, f"open({str(file)!r}, 'w')"), "builtins.eval"),
        (lambda file: Payload(exec, f"open({str(file)!r}, 'w')"), "builtins.exec"),
        (lambda file: Payload(open, str(file), "w"), ".open"),
        (lambda file: Payload(getattr, "text", "upper"), "builtins.getattr"),
        (lambda file: Payload(torch.hub.load, "a/b", "c"), "torch.hub.load"),
        (lambda file: Payload(torch.load, str(file)), "torch.serialization.load"),
        (lambda file: Payload(torch.save, 1, str(file)), "torch.serialization.save"),
        (lambda file: Payload(np.save, str(file), 1), "save"),
        (lambda file: Payload(np.fromfile, str(file)), "fromfile"),
        (lambda file: {"x": [(1, {"y": Payload(os.system, f"touch {file}")})]}, "posix.system"),
    ],
    ids=[
        "os.system",
        "eval",
        "exec",
        "open",
        "getattr",
        "torch.hub",
        "torch.load",
        "torch.save",
        "numpy.save",
        "numpy.fromfile",
        "nested",
    ],
)
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_calls_are_refused_before_they_run(tmp_path, payload, named, zipped):
    file, trace = tmp_path / "evil.pt", tmp_path / "trace"
    options = {"_use_new_zipfile_serialization": zipped}
    attributes = {"extra": payload(trace)}
    save_as_yolov5(file, random_net(tiny(2)), attributes=attributes, **options)
    assert_refused(file, named)
    assert not trace.exists()


@pytest.mark.parametrize(
    ("code", "named"),
    [
        (b"cos\nsystem\n(X\x05\x00\x00\x00touchtR.", "os.system"),
        (b"cmodels.common\nos.system\n.", "models.common.os.system"),
        (b"\x8c\x0emodels.commonX\x8c\x0eConv.__class__\x93.", "models.commonX.Conv.__class__"),
        (b"ctorch._utils\n_rebuild_tensor_v2\n}X\x01\x00\x00\x00aK\x01sb.", "change to a function"),
        (b"ctorch.nn.modules.module\n_global_x.y\n.", "_global_x.y"),
        (b"(S'touch'\nios\nsystem\n.", "os.system"),
        (b"cbuiltins\n__import__\n(S'os'\ntR.", "builtins.__import__"),
        (b"ctorch\nload\n.", "torch.load"),
        (b"cultralytics\nYOLO.train\n.", "ultralytics.YOLO.train"),
    ],
    ids=[
        "global",
        "dotted",
        "dotted-protocol-4",
        "build-on-function",
        "private-dotted",
        "inst",
        "import",
        "torch.load",
        "package-method",
    ],
)
def test_names_in_disguise_are_refused(tmp_path, code, named):
    file = tmp_path / "evil.pt"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x04" + code)
        archive.writestr("archive/version", b"3\n")
        archive.writestr("archive/byteorder", b"little")
    assert_refused(file, named)


def test_classes_of_the_file_do_not_run_even_when_they_can_be_imported(tmp_path):
    file, ran = tmp_path / "a.pt", []
    with original_classes() as classes:
        conv = classes["Conv"]
        conv.__setstate__ = lambda self, state: ran.append("setstate")
        conv.__init__ = lambda self, *_: ran.append("init")
        conv.__reduce__ = lambda self: (conv, (1, 2), {"kept": 3})
        torch.save({"model": conv()}, file)
        ran.clear()
        stub = read(file)["model"]
    assert ran == []
    assert isinstance(stub, Stub)
    assert (stub.path, stub.args, stub.state) == ("models.common.Conv", (1, 2), {"kept": 3})


def test_functions_of_a_known_package_become_stubs_and_are_not_imported(tmp_path):
    file = tmp_path / "a.pt"
    with zipfile.ZipFile(file, "w") as archive:
        code = b"\x80\x02cultralytics.made_up\nsafe_download\n(X\x01\x00\x00\x00utR."
        archive.writestr("archive/data.pkl", code)
        archive.writestr("archive/version", b"3\n")
    stub = read(file)
    assert (stub.path, stub.args) == ("ultralytics.made_up.safe_download", ("u",))
    assert "ultralytics.made_up" not in sys.modules


@pytest.mark.parametrize(
    ("value", "want"),
    [
        (np.float64(0.5), 0.5),
        (np.float32(-2), -2.0),
        (np.int64(7), 7),
        (np.bool_(True), True),
        (b"\x00\xff", b"\x00\xff"),
        ({1, 2}, {1, 2}),
        ({"a": (1, [None, 2.5])}, {"a": (1, [None, 2.5])}),
    ],
    ids=["float64", "float32", "int64", "bool", "bytes", "set", "nested"],
)
def test_plain_values_come_in(tmp_path, value, want):
    torch.save({"x": value}, tmp_path / "a.pt")
    found = read(tmp_path / "a.pt")["x"]
    assert found == want
    assert type(found) is type(want)


def test_tensors_come_in_with_their_views_and_types(tmp_path):
    base = torch.arange(12, dtype=torch.int64)
    content = {
        "t": base.view(3, 4).t(),
        "b": torch.ones(2, dtype=torch.bfloat16),
        "s": torch.tensor(3),
    }
    torch.save(content, tmp_path / "a.pt")
    found = read(tmp_path / "a.pt")
    for key, want in content.items():
        assert torch.equal(found[key], want)
        assert found[key].dtype == want.dtype
