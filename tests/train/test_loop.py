"""The epoch loop: learns, goes on bit-identically after an interruption, refuses divergence."""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from yoloq.base.errors import DataError, RunError, UserError
from yoloq.geometry.detections import GroundTruth
from yoloq.models.heads.anchor import AnchorHead
from yoloq.train import loop
from yoloq.train.augment import Augment, Sample
from yoloq.train.ema import WeightAverage
from yoloq.train.loop import Health, Means, Plan, fit, forward, supervised
from yoloq.train.loss_classic import ClassicLoss
from yoloq.train.optimizer import Schedule, make_optimizer, set_learning_rate
from yoloq.train.samples import Pictures, Sizes, TrainBatch, batches, collate, steps
from yoloq.train.state import RunState, table

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
HEAD = AnchorHead((8, 16, 32), (((16.0, 16.0),), ((30.0, 30.0),), ((60.0, 60.0),)), 2)
SIZES = Sizes(64, 64, 96)


class Tiny(nn.Module):
    """Three levels from strided convolutions with batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 8, 8), nn.BatchNorm2d(8), nn.SiLU())
        self.down = nn.ModuleList(nn.Conv2d(8, 8, 2, 2) for _ in range(2))
        self.heads = nn.ModuleList(nn.Conv2d(8, 7, 1) for _ in range(3))

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        x = self.stem(x)
        maps = [x]
        for down in self.down:
            maps.append(down(maps[-1]))
        return [head(level) for head, level in zip(self.heads, maps, strict=True)]


def pictures() -> Pictures:
    """Eight pictures of one bright or dark square, already in memory."""
    generator = np.random.default_rng(0)
    truth = GroundTruth(0, *(np.zeros(0) for _ in range(5)))
    result = Pictures([Path(f"{i}.png") for i in range(8)], truth, 64)
    for index in range(8):
        image = np.full((64, 64, 3), 114, np.uint8)
        x, y = generator.integers(0, 40, 2)
        image[y : y + 20, x : x + 20] = 250 * (index % 2)
        box = np.array([[x, y, x + 20, y + 20]], np.float32)
        result._kept[index] = Sample(image, box, np.array([index % 2]))
    return result


def make_state(folder: Path, key: str = "settings") -> RunState:
    torch.manual_seed(0)
    net = Tiny()
    optimizer = make_optimizer(net, "adamw", 0.01, 0.01)
    return RunState(folder / "state.pt", key, net, WeightAverage(net), optimizer)


def plan(epochs: int = 4, **changes: object) -> Plan:
    schedule = Schedule(epochs, warmup=1)
    return Plan(
        **{
            "epochs": epochs,
            "steps": 2,
            "learning_rate": 0.01,
            "schedule": schedule,
            "device": CPU,
            **changes,
        }
    )


def feed(epoch: int, stop: int | None = None) -> Iterator[TrainBatch]:
    for batch in batches(pictures(), epoch, 0, 4, Augment(mosaic=0.3), SIZES):
        yield batch
        if epoch == stop:
            raise KeyboardInterrupt


def train(state: RunState, stop: int | None = None, **changes: object) -> None:
    how = plan(**changes)
    fit(state, supervised(state.net, ClassicLoss(HEAD, 64), how), lambda e: feed(e, stop), how)


def tensors(state: RunState) -> dict[str, torch.Tensor]:
    """All tensors that training changes."""
    moments = {
        f"{i}.{name}": value
        for i, entry in state.optimizer.state_dict()["state"].items()
        for name, value in entry.items()
    }
    average = {f"average.{k}": v for k, v in state.average.net.state_dict().items()}
    return {**state.net.state_dict(), **average, **moments}


def losses(state: RunState) -> list[dict[str, float]]:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in state.history]


def test_an_interrupted_run_goes_on_bit_identically(tmp_path):
    whole = make_state(tmp_path / "whole")
    train(whole)

    killed = make_state(tmp_path / "killed")
    with pytest.raises(KeyboardInterrupt):
        train(killed, stop=2)
    resumed = make_state(tmp_path / "killed")
    with torch.no_grad():
        resumed.net.heads[0].bias.add_(1)  # whatever the new process starts with is replaced
    assert resumed.restore()
    assert len(resumed.history) == 2
    train(resumed)

    assert losses(resumed) == losses(whole)
    assert resumed.average.updates == whole.average.updates == 8
    ours, theirs = tensors(resumed), tensors(whole)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


def test_a_finished_run_trains_no_more(tmp_path):
    state = make_state(tmp_path)
    train(state)
    before = {name: value.clone() for name, value in tensors(state).items()}
    train(state)
    assert all(torch.equal(value, before[name]) for name, value in tensors(state).items())


def test_the_loss_falls_and_every_epoch_is_written(tmp_path):
    state = make_state(tmp_path)
    train(state, epochs=30)
    total = [row["box"] + row["obj"] + row["cls"] for row in state.history]
    assert sum(total[-5:]) < 0.8 * sum(total[:5])
    rows = (tmp_path / "state.csv").read_text().splitlines()
    assert rows[0] == "epoch,lr,box,obj,cls,seconds"
    assert [row.split(",")[0] for row in rows[1:]] == [str(i) for i in range(1, 31)]


def test_figures_of_validation_join_the_table(tmp_path):
    state = make_state(tmp_path)
    objective = supervised(state.net, ClassicLoss(HEAD, 64), plan(1))
    fit(state, objective, feed, plan(1), lambda epoch: {"map": 0.5})
    assert state.history[0]["map"] == 0.5


def test_other_settings_start_anew(tmp_path):
    train(make_state(tmp_path))
    assert not make_state(tmp_path, key="other").restore()
    assert not make_state(tmp_path / "nowhere").restore()


def test_a_damaged_state_is_named(tmp_path):
    (tmp_path / "state.pt").write_bytes(b"not a zip")
    with pytest.raises(RunError, match=r"state\.pt: is damaged; remove it"):
        make_state(tmp_path).restore()


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    state = make_state(tmp_path)

    def broken(raws, targets):
        value = raws[0].sum() * math.nan
        return value, {"box": value.detach()}

    with pytest.raises(UserError, match=r"not finite in epoch 1, step 1; lower --lr"):
        fit(state, supervised(state.net, broken, plan()), feed, plan())
    assert not state.file.exists()


class OfGpu(Health):
    """As on a GPU."""

    def __init__(self, *given) -> None:
        super().__init__(*given)
        self.every = 2


@pytest.mark.parametrize("kind", [Health, OfGpu], ids=["cpu", "gpu"])
def test_the_first_step_that_is_not_finite_is_named(kind):
    health = kind(replace(plan(), steps=5), "epoch 3")
    values = [1.0, 2.0, math.nan, math.inf, 1.0]
    found = [health.failed(torch.tensor(value)) for value in values]
    named = "epoch 3, step 3"
    cpu = ["", "", named, named, named]
    assert found == (cpu if kind is Health else ["", "", "", named, named])


def test_a_step_that_lies_behind_blames_no_layer():
    health = OfGpu(replace(plan(), steps=5), "epoch 3")
    late = []
    for value in (1.0, math.nan, 1.0, 1.0):
        health.failed(torch.tensor(value))
        late.append(health.is_late)
    assert late == [False, False, True, True]


def test_a_gpu_is_not_waited_for_in_every_step(tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr(loop, "Health", OfGpu)
    monkeypatch.setattr(Means, "values", lambda means: read.append(means.count) or {})
    state = make_state(tmp_path)
    steps = sum(1 for _ in feed(0))
    train(state, epochs=1)
    wanted = [count for count in range(1, steps + 1) if count % 2 == 0 or count == steps]
    assert read == [*wanted, steps], "once more for the epoch's line"


def test_prepare_decides_the_training_mode(tmp_path):
    state = make_state(tmp_path)
    before = state.net.stem[1].running_mean.clone()
    train(state, epochs=1, prepare=lambda net, epoch: net.eval())
    assert torch.equal(state.net.stem[1].running_mean, before)


@pytest.mark.parametrize("amp", [False, True])
def test_raw_maps_are_float32(amp):
    raws = forward(Tiny(), torch.zeros(1, 3, 64, 64, dtype=torch.uint8), plan(amp=amp))
    assert [raw.dtype for raw in raws] == [torch.float32] * 3
    assert [tuple(raw.shape) for raw in raws] == [(1, 7, n, n) for n in (8, 4, 2)]


@pytest.mark.parametrize(
    ("position", "decay", "factor"),
    [
        pytest.param(0.0, "cosine", 1e-3, id="start"),
        pytest.param(1.0, "cosine", 0.5, id="half of the warm-up"),
        pytest.param(2.0, "cosine", 1.0, id="top"),
        pytest.param(6.0, "cosine", 0.55, id="middle"),
        pytest.param(6.0, "linear", 0.55, id="middle, linear"),
        pytest.param(4.0, "linear", 0.775, id="quarter, linear"),
        pytest.param(10.0, "cosine", 0.1, id="end"),
        pytest.param(99.0, "linear", 0.1, id="beyond"),
    ],
)
def test_schedule(position, decay, factor):
    schedule = Schedule(10, warmup=2, floor=0.1, decay=decay)
    assert schedule.factor(position) == pytest.approx(factor)


def test_weights_decay_and_biases_do_not():
    groups = make_optimizer(Tiny(), "sgd", 0.1, 0.5).param_groups
    assert [group["weight_decay"] for group in groups] == [0.5, 0.0]
    assert {p.ndim for p in groups[0]["params"]} == {4}
    assert {p.ndim for p in groups[1]["params"]} == {1}
    with pytest.raises(ValueError, match="neither"):
        make_optimizer(Tiny(), "lion", 0.1, 0.5)


def test_a_relative_rate_is_a_share_of_a_layer_s_weights():
    net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Conv2d(2, 1, 1, bias=False), nn.ReLU())
    nn.init.constant_(net[0].weight, -0.5)
    nn.init.constant_(net[1].weight, 0.0)
    optimizer = make_optimizer(net, "adamw", 0.1, 0.5, relative=True)
    found = [(g["factor"], g["weight_decay"], g["params"]) for g in optimizer.param_groups]
    (weight, bias), second = net[0].parameters(), net[1].weight
    assert found == [(0.5, 0.5, [weight]), (0.5, 0.0, [bias]), (1e-3, 0.5, [second])]
    set_learning_rate(optimizer, 0.2)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.1, 0.1, 2e-4])
    of_sgd = make_optimizer(net, "sgd", 0.1, 0.5, relative=True).param_groups
    assert [group["factor"] for group in of_sgd] == [1.0, 1.0], "its steps follow the gradient"


@pytest.mark.parametrize(("updates", "want"), [(0, 100.0), (1, 100.0), (20, 81.0)])
def test_an_average_over_the_last_updates(updates, want):
    """Of 1, 2 ... 100; with weights that fall by 1 / 20 a step the mean age is 19."""
    net = nn.Linear(1, 1, bias=False)
    average = WeightAverage.over(net, updates)
    for value in range(1, 101):
        nn.init.constant_(net.weight, float(value))
        average.update(net)
    assert average.net.weight.item() == pytest.approx(want, abs=0.3)


def test_the_average_follows_by_the_published_rule():
    net = nn.Linear(1, 1, bias=False)
    nn.init.constant_(net.weight, 0.0)
    average = WeightAverage(net, decay=0.9, ramp=10)
    nn.init.constant_(net.weight, 1.0)
    expected = 0.0
    for updates in (1, 2, 3):
        average.update(net)
        decay = 0.9 * (1 - math.exp(-updates / 10))
        expected = decay * expected + (1 - decay)
    assert average.net.weight.item() == pytest.approx(expected)
    assert not average.net.weight.requires_grad


def test_batches_depend_on_seed_and_epoch_alone():
    def first(seed: int, epoch: int) -> torch.Tensor:
        return next(batches(pictures(), epoch, seed, 4, Augment(), SIZES)).images

    assert torch.equal(first(0, 3), first(0, 3))
    assert not torch.equal(first(0, 3), first(0, 4))
    assert not torch.equal(first(0, 3), first(1, 3))


def test_a_capped_epoch_takes_other_pictures_each_time():
    how = Augment(scale=0, fliplr=0, flipud=0, hue=0, saturation=0, value=0)
    plain = Sizes(64, 64, 64)

    def drawn(epoch: int, count: int) -> list[bytes]:
        found = batches(pictures(), epoch, 0, 2, how, plain, True, count)
        return [image.numpy().tobytes() for batch in found for image in batch.images]

    whole = len(pictures()) // 2 * 2
    assert [len(drawn(0, count)) for count in (4, 5, 0, 1000)] == [4, 4, whole, whole]
    assert drawn(0, 4) == drawn(0, 0)[:4] and set(drawn(0, 4)) != set(drawn(1, 4))


def test_sizes_are_multiples_of_the_stride_and_settle():
    generator = np.random.default_rng(0)
    sizes = Sizes(320, 192, 352)
    picked = {sizes.pick(generator, settled=False) for _ in range(200)}
    assert picked == {192, 224, 256, 288, 320, 352}
    assert {sizes.pick(generator, settled=True) for _ in range(9)} == {320}


@pytest.mark.parametrize(("count", "expected"), [(10, 2), (8, 2), (3, 1)])
def test_only_full_batches_unless_there_is_one(count, expected):
    assert steps(count, 4) == expected


def test_targets_are_image_class_and_fractions():
    image = np.zeros((100, 100, 3), np.uint8)
    empty = Sample(image, np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
    full = Sample(image, np.array([[10, 20, 30, 60]], np.float32), np.array([7]))
    batch = collate([empty, full])
    assert batch.images.shape == (2, 3, 100, 100)
    assert batch.targets.shape == (1, 6)
    assert batch.targets[0].tolist() == pytest.approx([1, 7, 0.2, 0.4, 0.2, 0.4])


def test_an_unreadable_picture_is_named(tmp_path):
    (tmp_path / "bad.jpg").write_bytes(b"")
    truth = GroundTruth(1, *(np.zeros(0) for _ in range(5)))
    with pytest.raises(DataError, match=r"bad\.jpg: cannot be read"):
        Pictures([tmp_path / "bad.jpg"], truth, 64)[0]


def test_table_of_epochs_leaves_missing_figures_empty():
    assert table([{"epoch": 1, "box": 0.25}, {"epoch": 2, "box": 0.5, "map": 0.125}]) == (
        "epoch,box,map\n1,0.25,\n2,0.5,0.125\n"
    )
