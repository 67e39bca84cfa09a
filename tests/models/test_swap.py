"""Another activation in the place of SiLU: in the network, in its description, in the file."""

from pathlib import Path

import pytest
import torch
from tiny_quant import as_input, pictures, tiny_model
from torch import nn
from torch.nn import functional as F

from yoloq.models.load import LoadedModel, load_model, new_model, save_model
from yoloq.models.swap import silu_layers, swapped
from yoloq.models.yolov5.layout import v6_spec

FUNCTIONS = {"hardswish": F.hardswish, "relu": F.relu}
CLASSES = {"hardswish": nn.Hardswish, "relu": nn.ReLU}


@pytest.fixture
def model() -> LoadedModel:
    return tiny_model()


def test_names_of_silus(model: LoadedModel) -> None:
    names = silu_layers(model.net)
    assert len(names) == 57  # a convolution each but the three of the head, in YOLOv5n
    assert names[:4] == ["model.0.act", "model.1.act", "model.2.cv1.act", "model.2.cv2.act"]


@pytest.mark.parametrize("activation", CLASSES)
def test_only_the_named_layers_change(model: LoadedModel, activation: str) -> None:
    names = ["model.0.act", "model.4.m.0.cv2.act"]
    other = swapped(model, names, activation)
    before, after = (dict(m.net.named_modules()) for m in (model, other))
    changed = [name for name in before if type(before[name]) is not type(after[name])]
    assert changed == names
    assert all(isinstance(after[name], CLASSES[activation]) for name in names)
    assert len(silu_layers(model.net)) == 57, "the original stays as it is"
    weights, kept = other.net.state_dict(), model.net.state_dict()
    assert weights.keys() == kept.keys()
    assert all(torch.equal(weights[name], kept[name]) for name in kept)


@pytest.mark.parametrize("activation", FUNCTIONS)
def test_what_the_network_computes(
    model: LoadedModel, activation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The original with SiLU itself replaced gives the same."""
    x = as_input(pictures(2))
    found = swapped(model, silu_layers(model.net), activation).net(x)
    monkeypatch.setattr(nn.SiLU, "forward", lambda self, y: FUNCTIONS[activation](y))
    for ours, wanted in zip(found, model.net(x), strict=True):
        assert torch.equal(ours, wanted)


@pytest.mark.parametrize("family", ["yolov5", "ultralytics"])
def test_it_is_a_checkpoint_like_any_other(tmp_path: Path, family: str) -> None:
    own = tiny_model(family)
    names = ["model.1.act", "model.9.cv2.act"]
    other = swapped(own, names, "hardswish")
    save_model(tmp_path / "swap.pt", other, note=1)
    again = load_model(tmp_path / "swap.pt")
    found = [name for name, module in again.net.named_modules() if type(module) is nn.Hardswish]
    assert found == names
    x = as_input(pictures(1))
    for ours, wanted in zip(again.net(x), other.net(x), strict=True):
        assert torch.equal(ours, wanted)
    assert (again.names, again.head, again.fused) == (own.names, own.head, True)
    assert again.extra["note"] == 1


def test_batch_norm_that_is_not_folded_stays(tmp_path: Path) -> None:
    torch.manual_seed(0)
    own = new_model("yolov5", v6_spec("n", 2) | {"width_multiple": 0.125}, ("a", "b"))
    save_model(tmp_path / "swap.pt", swapped(own, ["model.1.act"], "relu"))
    again = load_model(tmp_path / "swap.pt", fuse=False)
    assert isinstance(again.net.get_submodule("model.1.bn"), nn.BatchNorm2d)
    assert isinstance(again.net.get_submodule("model.1.act"), nn.ReLU)


@pytest.mark.parametrize("name", ["model.0", "model.0.conv", "model.2.none.act", "model.24.m.0"])
def test_what_is_no_silu_is_refused(model: LoadedModel, name: str) -> None:
    with pytest.raises(ValueError, match="is no SiLU"):
        swapped(model, [name], "relu")
