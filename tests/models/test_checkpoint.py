"""Reading checkpoints: classic ones of every layout, hostile ones, and what is no checkpoint."""

import os
import pickle
import sys
import zipfile

import numpy as np
import pytest
import torch
from pickled_models import (
    P6_ANCHORS,
    P6_BACKBONE,
    P6_HEAD,
    V5_BACKBONE,
    original_classes,
    random_net,
    save_as_yolov5,
)
from torch import nn

from yoloq.base.errors import CheckpointError
from yoloq.models.load import load_model
from yoloq.models.unpickle import Stub, read
from yoloq.models.yolov5.network import v6_spec

pytestmark = pytest.mark.usefixtures("one_thread")


def tiny(nc):
    """The published layout at an eighth of its width."""
    return {**v6_spec("n", nc), "width_multiple": 0.125}


V5_SPEC = {**tiny(4), "backbone": V5_BACKBONE}
P6_SPEC = {**tiny(4), "backbone": P6_BACKBONE, "head": P6_HEAD, "anchors": P6_ANCHORS}
LEAKY = {**tiny(4), "activation": "nn.LeakyReLU(0.1)", "bn_eps": 1e-5}
HARDSWISH = {**V5_SPEC, "activation": "nn.Hardswish()"}
CUSTOM = {**tiny(1), "anchors": [[4, 5, 8, 10], [11, 12, 13.5, 14], [40, 50, 60, 70]]}
INT_ANCHORS = {**tiny(4), "anchors": 3, "nc": 80}


def raw(net, size=64):
    torch.manual_seed(1)
    with torch.no_grad():
        return net(torch.rand(1, 3, size, size))


def assert_same_maps(found, wanted, tolerance=0.0):
    assert [item.shape for item in found] == [item.shape for item in wanted]
    for a, b in zip(found, wanted, strict=True):
        assert (a - b).abs().max() <= tolerance * b.abs().max()


@pytest.mark.parametrize(
    ("spec", "options"),
    [
        (tiny(4), {}),
        (tiny(4), {"keys": ("ema",), "half": False}),
        (tiny(4), {"_use_new_zipfile_serialization": False, "kind": "Model"}),
        (V5_SPEC, {"kind": "Model", "anchor_grid": True}),
        (V5_SPEC, {"anchor_grid": True, "_use_new_zipfile_serialization": False}),
        (P6_SPEC, {}),
        (LEAKY, {}),
        (HARDSWISH, {}),
        (CUSTOM, {"half": False}),
        (tiny(4), {"yaml": INT_ANCHORS}),
        (tiny(4), {"pickle_protocol": 4}),
    ],
    ids=[
        "v6",
        "ema-float",
        "v6-legacy-file",
        "v5.0",
        "v5.0-legacy-file",
        "p6",
        "leaky-eps",
        "hardswish",
        "custom-anchors-one-class",
        "yaml-of-other-nc",
        "protocol-4",
    ],
)
def test_a_classic_checkpoint_gives_the_same_network(tmp_path, spec, options):
    net = random_net(spec).half().float()
    file = tmp_path / "best.pt"
    save_as_yolov5(file, net, **options)
    wanted = raw(net)
    model = load_model(file, fuse=False)
    assert_same_maps(raw(model.net), wanted)
    assert (model.family, model.fused, model.net.training) == ("yolov5", False, False)
    assert model.imgsz == 416
    assert len(model.sha256) == 64
    assert model.names == tuple(f"n{i}" for i in range(spec["nc"]))
    assert model.head.strides == (8, 16, 32, 64)[: len(spec["anchors"])]
    pixels = [np.reshape(row, (-1, 2)) for row in spec["anchors"]]
    np.testing.assert_allclose(model.head.anchors, pixels, rtol=1e-3)
    fused = load_model(file)
    assert fused.fused
    assert_same_maps(raw(fused.net), wanted, 1e-4)


def test_ema_is_preferred_to_model(tmp_path):
    file = tmp_path / "last.pt"
    save_as_yolov5(file, random_net(tiny(2), seed=1), keys=("model",))
    content_model = raw(load_model(file, fuse=False).net)
    net = random_net(tiny(2), seed=2).half().float()
    save_as_yolov5(file, net, keys=("model", "ema"))
    assert_same_maps(raw(load_model(file, fuse=False).net), raw(net))
    assert (raw(net)[0] - content_model[0]).abs().max() > 0.1


@pytest.mark.parametrize(
    ("names", "want"),
    [
        (["a", "b"], ("a", "b")),
        ({0: "a", 1: "b"}, ("a", "b")),
        ({1: "b"}, ("class0", "b")),
        (["a", "b", "c"], ("a", "b")),
    ],
    ids=["list", "dict", "too-few", "too-many"],
)
def test_class_names(tmp_path, names, want):
    file = tmp_path / "a.pt"
    save_as_yolov5(file, random_net(tiny(2)), names=names)
    assert load_model(file).names == want


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"kind": "SegmentationModel"}, "holds a SegmentationModel; yoloq quantizes detection"),
        ({"detect": "Segment"}, "holds a Segment; yoloq quantizes detection"),
        ({"yaml": {**tiny(2), "ch": 4}}, "images of 4 channels"),
        ({"yaml": v6_spec("n", 2)}, "tensors do not fit"),
        ({"yaml": {"nc": 2}}, "cannot be rebuilt"),
        ({"yaml": {**tiny(2), "backbone": [[-1, 1, "C3TR", [64]]]}}, "layer 'C3TR'"),
        ({"keys": ()}, "holds no model"),
    ],
    ids=["segmentation", "segment-head", "channels", "other-yaml", "no-layers", "layer", "none"],
)
def test_models_that_yoloq_does_not_handle(tmp_path, options, text):
    file = tmp_path / "a.pt"
    save_as_yolov5(file, random_net(tiny(2)), **options)
    assert_refused(file, text)


def test_an_unknown_activation_is_refused_by_name(tmp_path):
    net = random_net(tiny(2))
    net.model[3].act = nn.Mish()
    save_as_yolov5(tmp_path / "one.pt", net)
    assert_refused(tmp_path / "one.pt", "has Mish at 'model.3.act'")
    net.model[0].act = nn.Mish()
    save_as_yolov5(tmp_path / "first.pt", net)
    assert_refused(tmp_path / "first.pt", "torch.nn.modules.activation.Mish")


def assert_refused(file, text):
    """The error is one line that names the file and holds `text`."""
    with pytest.raises(CheckpointError) as caught:
        load_model(file)
    message = str(caught.value)
    assert message.startswith(f"{file}: ")
    assert text in message
    assert "\n" not in message


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


def test_the_official_checkpoint_gives_the_original_raw_heads(coco_mini):
    reference = np.load(coco_mini / "reference" / "yolov5n_raw_320.npz")
    image = torch.from_numpy(reference["image"])[None].float() / 255
    for fuse in (False, True):
        model = load_model(coco_mini / "yolov5n.pt", fuse=fuse)
        with torch.no_grad():
            maps = [item.numpy() for item in model.net(image)]
        for found, key in zip(maps, ("raw_p3", "raw_p4", "raw_p5"), strict=True):
            want = reference[key]
            cells = found.reshape(3, 85, *found.shape[2:]).transpose(0, 2, 3, 1)
            assert abs(cells - want).max() <= 1e-5 * abs(want).max()
        assert_decoded(model.head.decode(maps, 0.001)[0], reference["decoded"])
    assert model.names[:2] == ("person", "bicycle")


def assert_decoded(found, decoded):
    """Same boxes and scores as rows of x y w h objectness and class scores."""
    scores = decoded[:, 4:5] * decoded[:, 5:]
    row, classes = np.nonzero((scores > 0.001) & (decoded[:, 4:5] > 0.001))
    assert len(found.scores) == len(row)
    np.testing.assert_array_equal(found.classes, classes)
    np.testing.assert_allclose(found.scores, scores[row, classes], atol=1e-5)
    centre, size = decoded[row, :2], decoded[row, 2:4]
    want = np.hstack((centre - size / 2, centre + size / 2))
    np.testing.assert_allclose(found.boxes, want, atol=0.02)
