"""`make train` on a tiny set: files, reuse, interruption, fine-tuning, mistakes."""

import json
import math
from pathlib import Path

import pytest
import torch
from tiny_set import TinySet

from yoloq.__main__ import main
from yoloq.data.dataset import read_dataset
from yoloq.models.load import load_model
from yoloq.stages.train import TrainConfig
from yoloq.stages.train import stage as train
from yoloq.stages.train.stage import epoch_batches, read_pictures
from yoloq.train.start import start_model

pytestmark = pytest.mark.usefixtures("one_thread")


def run(tiny: TinySet, project: Path, *more: str) -> int:
    flags = [*tiny.flags(project), "--epochs", "2", "--batch-size", "3", "--amp", "off", *more]
    return main("train", flags)


def result(project: Path) -> dict:
    return json.loads((project / "run" / "train.json").read_text())


@pytest.fixture(scope="module")
def project(tiny: TinySet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    assert run(tiny, folder) == 0
    return folder


def test_files_and_figures(project: Path, tiny: TinySet) -> None:
    found = result(project)
    assert found["stage"] == "train"
    assert [row["epoch"] for row in found["notes"]["epochs"]] == [1, 2]
    assert found["rows"][0]["precision"] == "fp32"
    model = load_model(project / "run" / "train.pt")
    assert model.imgsz == 64
    assert model.names == ("dark", "bright")
    start = load_model(tiny.weights).net.state_dict()
    assert any(not torch.equal(v, start[k]) for k, v in model.net.state_dict().items())
    stored = torch.load(project / "run" / "train.pt", weights_only=True)["state_dict"]
    assert stored["model.0.conv.weight"].dtype == torch.float16
    assert stored["model.0.bn.running_var"].dtype == torch.float32


def test_a_finished_training_is_reused(project, tiny, capsys) -> None:
    before = (project / "run" / "train.pt").stat().st_mtime_ns
    assert run(tiny, project) == 0
    assert "up to date" in capsys.readouterr().err
    assert (project / "run" / "train.pt").stat().st_mtime_ns == before


def test_an_interrupted_training_goes_on(tiny, tmp_path, monkeypatch, capsys) -> None:
    def stops(config, pictures, epoch):
        yield from epoch_batches(config, pictures, epoch)
        if epoch == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(train, "epoch_batches", stops)
        assert run(tiny, tmp_path) == 130
    assert not (tmp_path / "run" / "train.pt").exists()
    assert run(tiny, tmp_path) == 0
    assert "going on after epoch 1" in capsys.readouterr().err
    assert len(result(tmp_path)["notes"]["epochs"]) == 2


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        pytest.param(["--epochs", "0"], "--epochs 0", id="epochs"),
        pytest.param(["--lr", "0"], "--lr 0", id="lr"),
        pytest.param(["--mosaic", "2"], "--mosaic 2", id="mosaic"),
        pytest.param(["--multi-scale", "0.5"], "--multi-scale", id="multi-scale"),
        pytest.param(["--imgsz", "50"], "--imgsz 50", id="imgsz"),
        pytest.param(["--weights", "no.pt"], "no.pt", id="weights"),
        pytest.param(["--device", "cuda:99"], "--device cuda:99", id="device"),
    ],
)
def test_mistakes_are_one_line(tiny, tmp_path, the_error, flags, words) -> None:
    assert run(tiny, tmp_path, *flags) == 2
    assert words in the_error()
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_of_other_classes_gives_all_but_its_head(tiny: TinySet) -> None:
    loaded = load_model(tiny.weights, fuse=False).net.state_dict()
    model = start_model(str(tiny.weights), "yolov5", "n", ("a", "b", "c"))
    ours = model.net.state_dict()
    changed = {name for name in ours if not torch.equal(ours[name], loaded[name])}
    assert {name.rsplit(".", 1)[0] for name in changed} == {f"model.24.m.{i}" for i in range(3)}
    assert model.head.nc == 3


def test_scratch_starts_with_rare_objects() -> None:
    net = start_model("scratch", "yolov5", "n", ("a", "b")).net
    biases = [conv.bias.detach().view(3, 7)[:, 4].mean().item() for conv in net.model[-1].m]
    expected = [math.log(8 / (640 / stride) ** 2) for stride in (8, 16, 32)]
    assert biases == pytest.approx(expected, abs=0.3)


def test_last_epochs_are_at_the_size_in_use(tiny: TinySet) -> None:
    config = TrainConfig(data=str(tiny.data), epochs=9, settle=2, batch_size=2)
    pictures = read_pictures(read_dataset(tiny.data), 64)
    sizes = {
        epoch: {batch.images.shape[-1] for batch in epoch_batches(config, pictures, epoch)}
        for epoch in range(9)
    }
    assert sizes[7] == sizes[8] == {64}
    assert set().union(*(sizes[i] for i in range(7))) == {32, 64}
