"""Files of models that were rewritten after their training: read, or refused with what to undo."""

import copy

import pytest
import torch
from pickled_models import as_yolov5, original_classes, random_net, save_as_yolov5, tiny
from refused import assert_refused
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
