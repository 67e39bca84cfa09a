"""Files of other tasks, and heads that are none, are refused as what they are."""

import sys
import types

import pytest
import torch
from pickled_models import as_yolov5, original_classes, random_net, tiny
from refused import assert_refused
from torch import nn

pytestmark = pytest.mark.usefixtures("one_thread")
SPEC = {**tiny(2), "width_multiple": 0.03125}


def save_changed(file, change):
    with original_classes() as classes:
        model = as_yolov5(random_net(SPEC), classes)
        change(model.model)
        torch.save({"model": model, "ema": None}, file)


def widened(numbers):
    """Forks for key points, faces and oriented boxes widen `Detect` and keep its name."""

    def change(layers):
        head = layers[-1]
        head.no += numbers
        head.m = nn.ModuleList(nn.Conv2d(m.in_channels, head.no * head.na, 1) for m in head.m)

    return change


@pytest.mark.parametrize("numbers", [10, 180])
def test_more_numbers_a_box_are_of_another_task(numbers, tmp_path):
    save_changed(tmp_path / "a.pt", widened(numbers))
    assert_refused(tmp_path / "a.pt", f"gives {numbers} numbers a box besides place, size")
    assert_refused(tmp_path / "a.pt", "a model for key points or oriented boxes")


def behind_the_head(layers):
    layers.append(nn.Identity())


def no_layers(layers):
    del layers[:]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (behind_the_head, "ends in a torch.nn.modules.linear.Identity; yoloq knows models.yolo.D"),
        (no_layers, "its model has no layers"),
    ],
)
def test_what_ends_in_no_head(change, text, tmp_path):
    save_changed(tmp_path / "a.pt", change)
    assert_refused(tmp_path / "a.pt", text)


def save_as(file, monkeypatch, path, **children):
    """A module that pickles under the name of a class of a package that is not there."""
    home, _, name = path.rpartition(".")
    kind = type(name, (nn.Module,), {"__module__": home})
    for end in range(home.count(".") + 1):
        part = ".".join(home.split(".")[: end + 1])
        monkeypatch.setitem(sys.modules, part, types.ModuleType(part))
    monkeypatch.setattr(sys.modules[home], name, kind, raising=False)
    module = kind()
    for key, child in children.items():
        module.add_module(key, child)
    torch.save({"model": module}, file)


@pytest.mark.parametrize("path", ["resnet.ResNet", "efficientnet.EfficientNet"])
def test_torchvision_s_classifiers_of_classify_train(path, tmp_path, monkeypatch):
    save_as(tmp_path / "a.pt", monkeypatch, f"torchvision.models.{path}", fc=nn.Linear(4, 10))
    name = path.partition(".")[2]
    assert_refused(tmp_path / "a.pt", f"holds a {name}, a model for image classification")


def test_torchvision_s_detectors_are_no_classifiers(tmp_path, monkeypatch):
    save_as(tmp_path / "a.pt", monkeypatch, "torchvision.models.detection.ssd.SSD")
    assert_refused(tmp_path / "a.pt", "'torchvision.models.detection.ssd.SSD', which is no part")


@pytest.mark.parametrize(
    ("kind", "task"),
    [("ISegment", "instance segmentation"), ("IKeypoint", "pose estimation")],
)
def test_heads_of_forks(kind, task, tmp_path, monkeypatch):
    save_as(tmp_path / "a.pt", monkeypatch, f"models.yolo.{kind}")
    assert_refused(tmp_path / "a.pt", f"holds a {kind}, a model for {task}")
