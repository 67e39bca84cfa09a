"""Distillation: the relative error and its gradient, softened scores, blocks, teachers."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_quant import as_input, pictures, tiny_model, tiny_quantized
from torch import nn

from yoloq.base.errors import CheckpointError, UserError
from yoloq.models.heads.anchor import AnchorHead
from yoloq.models.heads.dfl import DflHead
from yoloq.models.load import save_model
from yoloq.train.label_loss import loss_for
from yoloq.train.terms.box_distance import detection_distance
from yoloq.train.terms.distill import Distillation, Taps, relative_error
from yoloq.train.terms.teacher import common_blocks, load_teacher

pytestmark = pytest.mark.usefixtures("one_thread")

ANCHORS = AnchorHead((8,), (((10.0, 10.0), (20.0, 20.0)),), 3)  # 2 * (5 + 3) channels
SIDES = DflHead((8,), 3, 4)  # 4 * 4 + 3 channels
DISTANCES = DflHead((8,), 3, 1)
HEADS = {"anchors": (ANCHORS, 16), "sides": (SIDES, 19), "distances": (DISTANCES, 7)}


def maps(channels: int, seed: int, count: int = 3) -> torch.Tensor:
    return torch.randn(count, channels, 4, 4, generator=torch.Generator().manual_seed(seed)) * 2


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_relative_error(layout: torch.memory_format) -> None:
    ours, theirs = maps(5, 0), maps(5, 1)
    a, b = ours.double().numpy(), theirs.double().numpy()
    wanted = sum(((x - y) ** 2).sum() / (y**2).sum() for x, y in zip(a, b, strict=True))
    found = relative_error(ours.to(memory_format=layout), theirs.to(memory_format=layout))
    assert float(found) == pytest.approx(wanted, rel=1e-5)
    assert float(relative_error(ours * 10, theirs * 10)) == pytest.approx(wanted, rel=1e-5)
    assert float(relative_error(theirs, theirs)) == 0


def test_gradient_of_the_relative_error_against_finite_differences() -> None:
    ours, theirs = maps(2, 0).double().requires_grad_(), maps(2, 1).double()
    assert torch.autograd.gradcheck(lambda x: relative_error(x, theirs), (ours,))


def test_a_teacher_of_zeros_divides_by_nothing() -> None:
    ours = torch.zeros(1, 2, 2, 2, requires_grad=True)
    error = relative_error(ours, torch.zeros(1, 2, 2, 2))
    error.backward()
    assert float(error.detach()) == 0 and float(ours.grad.abs().sum()) == 0


@pytest.mark.parametrize("temperature", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("head", HEADS)
def test_no_distance_between_equal_maps(head: str, temperature: float) -> None:
    description, channels = HEADS[head]
    raw = maps(channels, 0).requires_grad_()
    distance = Distillation(description, temperature=temperature)
    loss, parts = distance({}, {}, [raw], [raw.detach()])
    loss.backward()
    assert float(loss.detach()) == pytest.approx(0, abs=1e-4)
    assert float(raw.grad.abs().max()) < 1e-5
    assert list(parts) == ["head", "detections"]
    further, _ = distance({}, {}, [maps(channels, 1)], [raw.detach()])
    assert float(further) > 0.1


@pytest.mark.parametrize("temperature", [0.0, 2.0])
@pytest.mark.parametrize("head", HEADS)
def test_a_batch_is_the_sum_of_its_images(head: str, temperature: float) -> None:
    description, channels = HEADS[head]
    ours, theirs = maps(channels, 0), maps(channels, 1)
    features, others = {"model.3": maps(6, 2)}, {"model.3": maps(6, 3)}
    distance = Distillation(description, 0.5, 2.0, temperature)
    whole, _ = distance(features, others, [ours], [theirs])
    single = [
        distance(
            {"model.3": features["model.3"][i : i + 1]},
            {"model.3": others["model.3"][i : i + 1]},
            [ours[i : i + 1]],
            [theirs[i : i + 1]],
        )[0]
        for i in range(3)
    ]
    assert float(whole) == pytest.approx(float(sum(single)), rel=1e-5)


def test_softened_scores_against_numpy() -> None:
    ours, theirs, t = maps(16, 0, 1), maps(16, 1, 1), 2.0
    distance = Distillation(ANCHORS, head_weight=3.0, temperature=t, detection_weight=0.0)
    found, _ = distance({}, {}, [ours], [theirs])
    a, b = (raw.double().numpy().reshape(2, 8, 4, 4) for raw in (ours, theirs))
    boxes = ((a[:, :4] - b[:, :4]) ** 2).sum() / (b[:, :4] ** 2).sum()
    p, q = (1 / (1 + np.exp(-raw[:, 4:] / t)) for raw in (a, b))
    divergence = (q * np.log(q / p) + (1 - q) * np.log((1 - q) / (1 - p))).sum()
    assert float(found) == pytest.approx(3 * (boxes + divergence / q.sum() * t**2), rel=1e-4)


def test_weights_of_the_parts() -> None:
    ours, theirs = maps(16, 0), maps(16, 1)
    features, others = {"a": maps(2, 2), "b": maps(2, 3)}, {"a": maps(2, 4), "b": maps(2, 5)}
    head = float(relative_error(ours, theirs))
    blocks = np.mean([float(relative_error(features[n], others[n])) for n in "ab"])
    total, parts = Distillation(ANCHORS, 2.0, 5.0, detection_weight=0.0)(
        features, others, [ours], [theirs]
    )
    assert float(total) == pytest.approx(2 * blocks + 5 * head, rel=1e-5)
    assert float(parts["features"]) == pytest.approx(2 * blocks / 3, rel=1e-5), "mean over images"


@pytest.mark.parametrize("head", HEADS)
def test_detections_are_a_part_of_their_own(head: str) -> None:
    description, channels = HEADS[head]
    ours, theirs = maps(channels, 0), maps(channels, 1)
    wanted = float(detection_distance(description, 0, ours, theirs))
    total, parts = Distillation(description, detection_weight=4.0)({}, {}, [ours], [theirs])
    assert float(parts["detections"]) == pytest.approx(4 * wanted / 3, rel=1e-5), "mean over images"
    without, _ = Distillation(description, detection_weight=0.0)({}, {}, [ours], [theirs])
    assert float(total) == pytest.approx(float(without) + 4 * wanted, rel=1e-5)


def test_taps_take_the_outputs_of_one_pass() -> None:
    net = nn.Sequential(nn.Conv2d(3, 2, 1), nn.SiLU())
    taps = Taps(net, ["0"])
    y = net[1](net[0](x := torch.rand(1, 3, 2, 2)))
    net(x)
    taken = taps.take()
    assert list(taken) == ["0"] and torch.equal(net[1](taken["0"]), y)
    assert not taps.take().get("1")


def test_taps_leave_a_network_as_it_was_also_when_it_fails() -> None:
    net = nn.Sequential(nn.Conv2d(3, 2, 1), nn.SiLU())
    taps = Taps(net, ["0", "1"])
    with pytest.raises(RuntimeError), taps:
        net(torch.rand(1, 4, 2, 2))
    assert not taps.outputs
    assert not any(module._forward_hooks for module in net)


def test_blocks_that_are_compared() -> None:
    student, teacher = tiny_quantized().model.net, tiny_model().net
    blocks = [f"model.{i}" for i in (2, 3, 4, 5, 6, 7, 8, 9, 10, 13, 14, 17, 18, 20, 21, 23)]
    assert common_blocks(student, teacher) == blocks
    everything = tiny_quantized(float_first=0, float_head=False).model.net
    assert common_blocks(everything, teacher) == ["model.0", "model.1", *blocks]
    assert common_blocks(student, tiny_model(stem="focus").net) == []


def test_a_student_like_its_teacher_has_no_distance() -> None:
    model, x = tiny_model(), as_input(pictures(2))
    taps = Taps(model.net, ["model.4"])
    raws, features = model.net(x), taps.take()
    total, parts = Distillation(model.head)(features, features, raws, raws)
    assert float(parts["features"]) == float(parts["head"]) == 0
    assert float(total.detach()) == pytest.approx(0, abs=1e-5)


TEACHERS = {
    "names": (lambda m: replace(m, names=("a", "b", "x")), "has other classes (3: a, b, x)"),
    "anchors": (lambda m: _with_anchors(m), "its head differs"),
}


def _with_anchors(model):
    detect = model.net.detect
    detect.anchors += 1
    return model


@pytest.mark.parametrize("case", TEACHERS)
def test_a_teacher_that_does_not_fit_is_named(case: str, tmp_path) -> None:
    change, words = TEACHERS[case]
    save_model(tmp_path / "teacher.pt", change(tiny_model()))
    with pytest.raises(CheckpointError) as error:
        load_teacher(str(tmp_path / "teacher.pt"), tiny_model())
    assert "--teacher" in str(error.value) and words in str(error.value)


def test_a_teacher_that_fits(tmp_path) -> None:
    save_model(tmp_path / "teacher.pt", tiny_model())
    teacher = load_teacher(str(tmp_path / "teacher.pt"), tiny_model())
    x = as_input(pictures(1))
    with torch.no_grad():
        assert torch.equal(teacher.net(x)[0], tiny_model().net(x)[0])


class NewHead(DflHead):
    """A head that no file of training knows: another name, and boxes of its own."""

    kind = "new"


def test_a_new_head_is_distilled_without_a_change_elsewhere() -> None:
    head = NewHead((8, 16), 3, 1)
    ours, theirs = maps(7, 0).requires_grad_(), maps(7, 1)
    for temperature in (0.0, 2.0):
        total, _ = Distillation(head, temperature=temperature)({}, {}, [ours], [theirs])
        total.backward()
        assert float(total.detach()) > 0 and bool(ours.grad.abs().sum() > 0)


def test_a_head_without_a_loss_is_named() -> None:
    with pytest.raises(UserError, match=r"no loss is known for a head of kind 'new'.*--loss dis"):
        loss_for(NewHead((8, 16), 3, 1), 64, torch.device("cpu"))
