"""Reading checkpoints of classic YOLOv5: every layout, and models that are no detectors."""

import numpy as np
import pytest
import torch
from pickled_models import (
    P6_ANCHORS,
    P6_BACKBONE,
    P6_HEAD,
    V5_BACKBONE,
    random_net,
    save_as_yolov5,
    tiny,
)
from refused import assert_refused

from yoloq.models.load import load_model

pytestmark = pytest.mark.usefixtures("one_thread")


V5_SPEC = {**tiny(4), "backbone": V5_BACKBONE}
P6_SPEC = {**tiny(4), "backbone": P6_BACKBONE, "head": P6_HEAD, "anchors": P6_ANCHORS}
LEAKY = {**tiny(4), "activation": "nn.LeakyReLU(0.1)", "bn_eps": 1e-5}
HARDSWISH = {**V5_SPEC, "activation": "nn.Hardswish()"}
CUSTOM = {**tiny(1), "anchors": [[4, 5, 8, 10], [11, 12, 13.5, 14], [40, 50, 60, 70]]}


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
        ({"0": "a", "1": "b"}, ("a", "b")),
        (np.array(["a", "b\u00e9"]), ("a", "b\u00e9")),
        (np.array(["a", "b"], object), ("a", "b")),
        ([np.str_("a"), np.str_("b")], ("a", "b")),
    ],
    ids=["list", "dict", "too-few", "text-keys", "array", "objects", "numpy-texts"],
)
def test_class_names(tmp_path, names, want):
    file = tmp_path / "a.pt"
    save_as_yolov5(file, random_net(tiny(2)), names=names)
    assert load_model(file).names == want


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            {"kind": "SegmentationModel"},
            "a SegmentationModel, a model for instance segmentation",
        ),
        ({"detect": "Segment"}, "a Segment, a model for instance segmentation"),
        ({"keys": ()}, "holds no model"),
    ],
    ids=["segmentation", "segment-head", "none"],
)
def test_models_that_yoloq_does_not_handle(tmp_path, options, text):
    file = tmp_path / "a.pt"
    save_as_yolov5(file, random_net(tiny(2)), **options)
    assert_refused(file, text)


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


@pytest.mark.parametrize(
    ("name", "family", "classes"),
    [
        ("yolov8n_8.4.7_sppf_identity", "ultralytics", ("Animal", "Car")),
        ("yolo11n_8.4.60_sppf_identity", "ultralytics", ("item",)),
        ("yolov5n_dill", "yolov5", ("walk", "stand")),
        ("yolov5n_v6.0", "yolov5", ("person", "bicycle")),
    ],
)
def test_files_of_strangers(real, name, family, classes):
    model = load_model(real / "checkpoints" / f"{name}.pt")
    assert (model.family, model.names[:2]) == (family, classes)
    assert model.head.strides == (8, 16, 32)


def test_a_stranger_s_classifier_is_named(real):
    assert_refused(real / "checkpoints" / "yolov5_cls.pt", "holds a ClassificationModel")


def test_the_package_has_what_scripts_of_users_import() -> None:
    from yoloq import models
    from yoloq.models import load

    assert models.load_model is load.load_model
    assert models.save_model is load.save_model
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = models.nothing
