"""Ranges that follow the image: each image by itself, and everything as before afterwards."""

import numpy as np
import pytest
import torch
from tiny_quant import as_input, pictures, tiny_quantized
from torch import Tensor

from yoloq.quant.adaptive import DynamicQuantizer, SceneQuantizer, Scenes, adaptive
from yoloq.quant.modules import QuantAdd, QuantConv2d
from yoloq.quant.quantizer import TensorQuantizer
from yoloq.quant.spec import QuantSpec

pytestmark = pytest.mark.usefixtures("one_thread")

SYMMETRIC, ASYMMETRIC = QuantSpec(4), QuantSpec(4, symmetric=False)
X = torch.tensor([[0.0, 0.5, 1.5, 3.75], [0.0, -0.2, 0.1, 0.55]]).view(2, 1, 2, 2)


def static(spec: QuantSpec, low: float, high: float) -> TensorQuantizer:
    made = TensorQuantizer(spec)
    made.set_range(torch.tensor(low), torch.tensor(high))
    return made


def test_each_image_has_the_range_of_its_own_extremes() -> None:
    # 15 steps: of 3.75 / 15 = 0.25 in the first image, of 0.75 / 15 = 0.05 in the second
    found = DynamicQuantizer(ASYMMETRIC)(X)
    want = [[0.0, 0.5, 1.5, 3.75], [0.0, -0.2, 0.1, 0.55]]
    np.testing.assert_allclose(found.flatten(1), want, atol=1e-6)
    # seven steps on either side: 3.75 / 7 = 0.536 and 0.55 / 7 = 0.0786
    found = DynamicQuantizer(SYMMETRIC)(X)
    want = [[0, 1 * 3.75 / 7, 3 * 3.75 / 7, 3.75], [0, -3 * 0.55 / 7, 1 * 0.55 / 7, 0.55]]
    np.testing.assert_allclose(found.flatten(1), want, atol=1e-6)


@pytest.mark.parametrize("spec", [SYMMETRIC, ASYMMETRIC], ids=["symmetric", "asymmetric"])
def test_a_part_of_the_values_may_lie_outside(spec: QuantSpec) -> None:
    x = torch.linspace(0, 1, 1001).repeat(2, 1)
    x[1] *= 2
    x[:, -1] = 50.0
    low, high = DynamicQuantizer(spec, clipped=0.02).ranges(x)
    part = 0.98 if spec.symmetric else 0.99
    np.testing.assert_allclose(high, [part, 2 * part], atol=0.002)
    np.testing.assert_allclose(low, -high if spec.symmetric else [0.01, 0.02], atol=0.002)


@pytest.mark.parametrize("clipped", [0.0, 0.01])
def test_an_image_does_not_depend_on_the_others_of_its_batch(clipped: float) -> None:
    quantizer, images = DynamicQuantizer(ASYMMETRIC, clipped), as_input(pictures(3))
    images[1] *= 0.1
    together = quantizer(images)
    for index in range(3):
        assert torch.equal(together[index : index + 1], quantizer(images[index : index + 1]))
    assert 2 < len(together[1].unique()) <= 16


def test_a_network_runs_with_ranges_of_its_images() -> None:
    quantized = tiny_quantized(float_first=0)
    net, images = quantized.model.net, as_input(pictures(3))
    with torch.inference_mode():
        before = net(images)[0]
        with adaptive(net, quantized.placement, lambda _, q: DynamicQuantizer(q.spec)):
            within = net(images)[0]
        assert not torch.equal(within, before)
        assert torch.equal(net(images)[0], before)


def test_every_activation_but_the_image_has_the_other_quantizer_and_then_its_own_again() -> None:
    quantized = tiny_quantized(float_first=0, residual="both")
    net, made = quantized.model.net, {}

    def make(name: str, quantizer: TensorQuantizer) -> DynamicQuantizer:
        made[quantizer] = DynamicQuantizer(quantizer.spec)
        return made[quantizer]

    convs = {n: m for n, m in net.named_modules() if isinstance(m, QuantConv2d)}
    adds = [m for m in net.modules() if isinstance(m, QuantAdd)]
    before = {name: conv.input_quantizer for name, conv in convs.items()}
    shared = [add.residual_quantizer for add in adds]

    def fails_within() -> None:
        with adaptive(net, quantized.placement, make):
            for name, conv in convs.items():
                own = name == quantized.placement.image_reader
                assert conv.input_quantizer is (before[name] if own else made[before[name]])
            assert [add.residual_quantizer for add in adds] == [made[each] for each in shared]
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails_within()
    assert {name: conv.input_quantizer for name, conv in convs.items()} == before
    assert adds and [add.residual_quantizer for add in adds] == shared


def kinds() -> list[Tensor]:
    """Bright and dark noise, and bright images without edges."""
    random = torch.Generator().manual_seed(0)
    bright = torch.rand(6, 3, 16, 16, generator=random)
    flat = torch.rand(6, 3, 1, 1, generator=random).expand(6, 3, 16, 16)
    return [bright, bright * 0.1, flat]


def test_scenes_know_kinds_of_images_by_their_look() -> None:
    scenes = Scenes(kinds())
    others = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    images = torch.stack([others[0], others[1] * 0.1, others[0] * 0 + 0.5])
    assert scenes.of(images).tolist() == [0, 1, 2]


def test_a_scene_has_the_range_that_was_calibrated_for_it() -> None:
    scenes = Scenes(kinds())
    net = torch.nn.Identity()
    ranges = torch.tensor([[0.0, 4.0], [-0.5, 1.0], [0.0, 9.0]])
    quantizer = SceneQuantizer(ASYMMETRIC, ranges, scenes)
    with scenes.watching(net):
        net(torch.stack([kinds()[1][0], kinds()[0][0]]))
    found = quantizer(X)
    assert torch.equal(found[:1], static(ASYMMETRIC, -0.5, 1.0)(X[:1]))
    assert torch.equal(found[1:], static(ASYMMETRIC, 0.0, 4.0)(X[1:]))
    net(kinds()[2])
    assert scenes.kinds.tolist() == [1, 0], "it looks no more"
