"""How much places count: by their influence on the boxes found, with a rest everywhere."""

import pytest
import torch
from torch import Tensor, nn

from yoloq.models.heads.anchor import AnchorHead
from yoloq.quant.refine.place_weights import SHARE, PlaceWeights

pytestmark = pytest.mark.usefixtures("one_thread")

HEAD = AnchorHead((8,), (((16.0, 32.0),),), 1)
FOUND = torch.tensor([[[[1.0, -4.0, -4.0, -4.0]]]])  # a box at its first place alone


class Twice(nn.Module):
    """Objectness is 2 x - 1 and the class's logit 3; `inner` runs twice before."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.conv = nn.Conv2d(1, 1, 1, bias=False), nn.Conv2d(1, 6, 1)
        self.inner.weight.data.fill_(1.0)
        self.conv.weight.data = torch.tensor([0.0, 0.0, 0.0, 0.0, 2.0, 0.0]).view(-1, 1, 1, 1)
        self.conv.bias.data = torch.tensor([0.0, 0.0, 0.0, 0.0, -1.0, 3.0])

    def forward(self, x: Tensor) -> list[Tensor]:
        return [self.conv(self.inner(self.inner(x)))]


def weights(*batches: Tensor) -> PlaceWeights:
    return PlaceWeights(Twice().eval(), HEAD, batches, seed=0)


def test_the_place_of_a_box_has_all_of_the_share() -> None:
    (found,) = weights(FOUND).of("conv")
    assert found.shape == (1, 1, 4)
    rest = 1 - SHARE
    assert found.flatten().tolist() == pytest.approx([4 * SHARE + rest, rest, rest, rest])


def test_weights_are_alike_where_no_box_is_found() -> None:
    (found,) = weights(torch.full((2, 1, 2, 2), -4.0)).of("conv")
    assert torch.equal(found, torch.ones(2, 2, 2))


def test_a_module_has_weights_of_each_call_and_batch() -> None:
    calls = weights(FOUND, FOUND.repeat(6, 1, 1, 1)).of("inner")
    assert [tuple(call.shape) for call in calls] == [(1, 1, 4)] * 2 + [(6, 1, 4)] * 2
    for call in calls:
        assert float(call.mean()) == pytest.approx(1)
        assert (call.argmax(2) == 0).all()


def test_an_image_without_a_box_counts_less_than_one_with() -> None:
    (found,) = weights(torch.cat((torch.full_like(FOUND, -4.0), FOUND))).of("conv")
    assert float(found[0].max()) == pytest.approx(1 - SHARE)
    assert float(found[1].max()) == pytest.approx(8 * SHARE + 1 - SHARE)


def test_the_network_is_left_as_it_was() -> None:
    net = Twice().eval()
    PlaceWeights(net, HEAD, [FOUND], seed=0).of("conv")
    assert all(p.requires_grad and p.grad is None for p in net.parameters())
    assert not net.conv._forward_hooks
