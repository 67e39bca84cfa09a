"""Files of models that were rewritten after their training: read, or refused with what to undo."""

import copy

import pytest
import torch
from pickled_models import as_yolov5, original_classes, random_net, save_as_yolov5, tiny
from refused import assert_refused
from torch import nn
from torch.nn.utils import (
    parametrizations,
    prune,
    remove_spectral_norm,
    remove_weight_norm,
    spectral_norm,
    weight_norm,
)

from yoloq.models.load import load_model

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # torch would have the newer norms
]
SPEC = {**tiny(2), "width_multiple": 0.03125}


@pytest.fixture
def net():
    return random_net(SPEC).requires_grad_(False)


def maps(net):
    with torch.no_grad():
        return net(torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(1)))


def assert_is(file, net):
    found = maps(load_model(file, fuse=False).net)
    assert all(torch.equal(a, b) for a, b in zip(found, maps(net), strict=True))


TOOLS = {
    "prune": (
        lambda conv: prune.l1_unstructured(conv, "weight", 0.3),
        lambda conv: prune.remove(conv, "weight"),
        "pruned",
        "call torch.nn.utils.prune.remove(layer, 'weight') on each",
    ),
    "structured": (
        lambda conv: prune.ln_structured(conv, "weight", 0.3, 2, 0),
        lambda conv: prune.remove(conv, "weight"),
        "pruned",
        "call torch.nn.utils.prune.remove(layer, 'weight') on each",
    ),
    "spectral-norm": (
        spectral_norm,
        remove_spectral_norm,
        "under spectral norm",
        "call torch.nn.utils.remove_spectral_norm(layer) on each",
    ),
    "weight-norm": (
        weight_norm,
        remove_weight_norm,
        "under weight norm",
        "call torch.nn.utils.remove_weight_norm(layer) on each",
    ),
}


@pytest.mark.parametrize(("rewrite", "undo", "state", "remedy"), TOOLS.values(), ids=TOOLS)
def test_rewritten_weights_are_named_with_a_remedy_that_helps(
    rewrite, undo, state, remedy, net, tmp_path
):
    conv, file = net.model[3].conv, tmp_path / "a.pt"
    rewrite(conv)
    net.requires_grad_(False)
    maps(net)
    save_as_yolov5(file, net, half=False)
    assert_refused(file, f"'model.3.conv.weight' is {state}; {remedy}")
    bare = copy.deepcopy(net)
    for name in vars(bare.model[3].conv):
        if name.endswith("_hooks"):
            vars(bare.model[3].conv)[name].clear()
    save_as_yolov5(file, bare, half=False)
    assert_refused(file, f"'model.3.conv.weight' is {state}; {remedy}")
    undo(conv)
    save_as_yolov5(file, net, half=False)
    assert_is(file, net)


@pytest.mark.parametrize(
    ("rewrite", "text"),
    [
        (lambda conv: prune.random_unstructured(conv, "weight", 0.2), "is pruned; call"),
        (
            parametrizations.weight_norm,
            "is parametrized; call torch.nn.utils.parametrize.remove_parametrizations(layer",
        ),
        (parametrizations.spectral_norm, "is parametrized; call"),
    ],
    ids=["prune", "weight-norm", "spectral-norm"],
)
def test_averaged_weights_that_are_rewritten(rewrite, text, net, tmp_path):
    """As a state dict beside a plain model: torch itself does not pickle parametrized modules."""
    other = copy.deepcopy(net)
    rewrite(other.model[7].conv)
    save_as_yolov5(tmp_path / "a.pt", net, half=False, content={"ema": other.state_dict()})
    assert_refused(tmp_path / "a.pt", f"'model.7.conv.weight' {text}")


def test_a_model_with_torch_s_fake_quantization(net, tmp_path):
    net.model[3].add_module("observed", torch.ao.quantization.FakeQuantize())
    save_as_yolov5(tmp_path / "a.pt", net, half=False)
    assert_refused(tmp_path / "a.pt", "holds parts of a quantized model ('torch.ao.quantization.")
    assert_refused(tmp_path / "a.pt", "give the float checkpoint that it was made from")


@pytest.mark.parametrize("bare", [True, False], ids=["alone", "as-model"])
def test_an_ensemble(bare, net, tmp_path):
    with original_classes() as classes:
        both = classes["Ensemble"]()
        for number in range(2):
            both.add_module(str(number), as_yolov5(net, classes))
        torch.save(both if bare else {"model": both}, tmp_path / "a.pt")
    assert_refused(tmp_path / "a.pt", "holds an Ensemble of 2 models")
    assert_refused(tmp_path / "a.pt", "give the checkpoint of one")


CHANGED = {
    "kernel": (
        lambda net: vars(net.model[9].m).update(kernel_size=None),
        "'model.9.m', a MaxPool2d, cannot compute on an image (max_pool2d(): argument 'kernel_",
    ),
    "stride": (
        lambda net: vars(net.model[3].conv).update(stride="two"),
        "'model.3.conv', a Conv2d, cannot compute on an image (conv2d() received",
    ),
    "groups": (
        lambda net: vars(net.model[3].conv).update(groups=0),
        "'model.3.conv', a Conv2d, cannot be built (groups must be a positive integer); give the",
    ),
    "axis": (
        lambda net: setattr(net.model[12], "d", "one"),
        "'model.12', a Concat, cannot compute on an image (cat(): argument 'dim'",
    ),
    "map": (
        lambda net: net.sources.__setitem__(17, 12),
        "'model.17.cv1.conv', a Conv2d, cannot compute on an image (Given groups=1, weight of",
    ),
    "later": (
        lambda net: net.sources.__setitem__(5, 7),
        "'model.5', a Conv, says that it reads layer 7 (`f`), which is none before it",
    ),
    "itself": (lambda net: net.sources.__setitem__(5, 5), "reads layer 5 (`f`)"),
    "too-far-back": (lambda net: net.sources.__setitem__(5, -7), "reads layer -7 (`f`)"),
    "nothing": (lambda net: net.sources.__setitem__(12, []), "'model.12', a Concat, says"),
}


@pytest.mark.parametrize(("change", "text"), CHANGED.values(), ids=CHANGED)
def test_the_module_that_cannot_be_is_named(change, text, net, tmp_path):
    change(net)
    save_as_yolov5(tmp_path / "a.pt", net, half=False)
    assert_refused(tmp_path / "a.pt", text)


def anchors_of_two(detect):
    detect.anchors = torch.zeros(2)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda head: setattr(head, "nc", "two"), "its head's 'nc' is two, which is no whole"),
        (lambda head: setattr(head, "na", [3]), "its head's 'na' is [3], which is no whole number"),
        (lambda head: setattr(head, "stride", [8, 16]), "'stride' is [8, 16], which is no tensor"),
        (anchors_of_two, "'model.24': its 'anchors' are no sizes"),
        (lambda head: head.m._modules.update({"1": 3.0}), "'model.24.m.1' is no module but a"),
        (lambda head: setattr(head.m, "1", nn.Identity()), "'model.24.m.1' is a torch.nn.modules."),
    ],
    ids=["nc", "na", "stride", "anchors", "part", "convolution"],
)
def test_what_is_wrong_with_a_head_is_named(change, text, net, tmp_path):
    with original_classes() as classes:
        model = as_yolov5(net, classes)
        change(model.model[24])
        torch.save({"model": model}, tmp_path / "a.pt")
    assert_refused(tmp_path / "a.pt", text)


@pytest.mark.parametrize("whole", [True, False], ids=["all", "one"])
def test_parts_that_are_no_modules(whole, net, tmp_path):
    with original_classes() as classes:
        model = as_yolov5(net, classes)
        parts = model._modules if whole else model.model[2]._modules
        parts.update({"model": None} if whole else {"cv1": 1.5})
        torch.save({"model": model}, tmp_path / "a.pt")
    place, kind = ("'model'", "NoneType") if whole else ("'model.2.cv1'", "float")
    assert_refused(tmp_path / "a.pt", f"{place} is no module but a {kind}")
