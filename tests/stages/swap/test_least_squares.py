"""Weights fitted to another activation before anything is trained."""

import copy
from dataclasses import replace
from pathlib import Path

import cv2
import pytest
import torch
from tiny_quant import as_input, pictures, tiny_model
from torch import nn

from yoloq.models.load import LoadedModel
from yoloq.models.swap import silu_layers, swapped
from yoloq.stages.swap.least_squares import convolutions, fit_weights

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("pictures")
    found = [folder / f"{i}.png" for i in range(16)]
    for file, image in zip(found, pictures(16), strict=True):
        cv2.imwrite(str(file), image[..., ::-1])
    return found


def loud() -> LoadedModel:
    """A model whose activations are large enough that ReLU is not SiLU."""
    model = tiny_model()
    for name in convolutions(model.net):
        conv = model.net.get_submodule(name)
        assert isinstance(conv, nn.Conv2d) and conv.bias is not None
        conv.bias.data.add_(0.5)
    return model


def error(model: LoadedModel, other: LoadedModel) -> float:
    """Relative squared error of the raw maps on pictures that nothing was fitted to."""
    with torch.inference_mode():
        pairs = [each.net(as_input(pictures(8, seed=1))) for each in (model, other)]
    apart = sum(float((a - b).square().sum()) for a, b in zip(*pairs, strict=True))
    return apart / sum(float((a - a.mean()).square().sum()) for a in pairs[0])


def test_fitted_weights_give_what_the_original_gives(files: list[Path]) -> None:
    model = loud()
    made = swapped(model, silu_layers(model.net), "relu")
    before = error(model, made)
    fit_weights(model, made, files, 64, seed=0)
    assert error(model, made) < 0.5 * before
    assert not any(isinstance(module, nn.SiLU) for module in made.net.modules())


def test_where_nothing_was_changed_before_it_a_weight_stays(files: list[Path]) -> None:
    model = tiny_model()
    layers = [name for name in silu_layers(model.net) if name.startswith("model.3")]
    made = swapped(model, layers, "relu")
    fit_weights(model, made, files, 64, seed=0)
    for name in ("model.0", "model.1", "model.2"):
        ours, theirs = (each.net.get_submodule(name).state_dict() for each in (model, made))
        for key, value in ours.items():
            torch.testing.assert_close(theirs[key], value, rtol=1e-4, atol=1e-5)


def test_the_same_seed_gives_the_same_weights(files: list[Path]) -> None:
    model = tiny_model()
    made = swapped(model, silu_layers(model.net), "hardswish")
    twin = replace(made, net=copy.deepcopy(made.net))
    for each in (made, twin):
        fit_weights(model, each, files[:4], 64, seed=3)
    for key, value in made.net.state_dict().items():
        assert torch.equal(twin.net.state_dict()[key], value), key
