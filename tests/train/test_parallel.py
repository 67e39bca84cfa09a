"""Data parallel over two processes: the same weights in both, as from one process."""

import json
from pathlib import Path

import pytest
import torch
from tiny_set import TinySet
from two_processes import SUPPORT, torchrun

from yoloq.base.errors import UserError
from yoloq.base.own_files import ROOT
from yoloq.quant.quantized import load_quantized
from yoloq.train.parallel import Processes, processes
from yoloq.train.samples import TrainBatch

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Gradients and weights of either process after one step."""
    folder = tmp_path_factory.mktemp("steps")
    done = torchrun(str(SUPPORT / "parallel_worker.py"), str(folder))
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("loss", ["distill", "task", "both"])
def test_two_processes_have_the_same_weights(steps: Path, loss: str) -> None:
    (gradients, weights), (others, same) = (
        torch.load(steps / f"{loss}-{rank}.pt", weights_only=True) for rank in range(2)
    )
    assert all(torch.equal(gradients[name], others[name]) for name in gradients)
    assert all(torch.equal(weights[name], same[name]) for name in weights)


def test_gradients_of_distillation_are_those_of_the_whole_batch(steps: Path) -> None:
    gradients, _ = torch.load(steps / "distill-0.pt", weights_only=True)
    expected, _ = torch.load(steps / "whole.pt", weights_only=True)
    assert gradients.keys() == expected.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected[name], rtol=2e-3, atol=1e-5)


def test_gradients_of_the_task_are_the_mean_of_the_processes(steps: Path) -> None:
    """Each half of the batch has its own means, as in YOLOv5's data-parallel training."""
    gradients, _ = torch.load(steps / "task-0.pt", weights_only=True)
    halves = [torch.load(steps / f"half-{rank}.pt", weights_only=True)[0] for rank in range(2)]
    for name, gradient in gradients.items():
        if name in halves[0]:  # the sum over images: of two halves, each of its own mean
            torch.testing.assert_close(
                gradient, halves[0][name] + halves[1][name], rtol=2e-3, atol=1e-5
            )


def test_a_batch_is_shared_by_image() -> None:
    images = torch.arange(4, dtype=torch.uint8).view(4, 1, 1, 1)
    targets = torch.tensor([[0.0, 7], [1, 8], [1, 9], [3, 5]])
    batch = TrainBatch(images, targets)
    first, second = (Processes(rank, 2, CPU).share(batch) for rank in range(2))
    assert first.images.flatten().tolist() == [0, 2]
    assert second.images.flatten().tolist() == [1, 3]
    assert first.targets.tolist() == [[0, 7]]
    assert second.targets.tolist() == [[0, 8], [0, 9], [1, 5]]
    assert Processes(0, 1, CPU).share(batch) is batch


def test_a_batch_that_cannot_be_split_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(UserError, match="--batch-size 16: must be a multiple of the 3 processes"):
        processes("cpu", 16).__enter__()


def test_the_stage_under_torchrun(tiny: TinySet, tmp_path: Path) -> None:
    flags = ["--epochs", "2", "--batch-size", "4", "--optimizer", "sgd", "--lr", "1e-3"]
    flags += ["--correct", "1"]
    script = str(ROOT / "scripts" / "qat.py")
    done = torchrun(script, *tiny.flags(tmp_path, *flags))
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("epoch 2/2") == 1, "one process speaks"
    assert done.stderr.count("epochs of scales and biases") == 1
    files = {file.name for file in (tmp_path / "run").iterdir()}
    assert {"qat.pt", "qat.json", "qat.csv", "qat.png"} <= files and "qat-state.pt" not in files
    found = json.loads((tmp_path / "run" / "qat.json").read_text())
    assert [row["epoch"] for row in found["notes"]["epochs"]] == [0, 1, 2, 3]
    assert found["rows"][0]["fidelity"] == found["notes"]["best"]["fidelity"]
    load_quantized(tmp_path / "run" / "qat.pt")
