"""Run under torchrun by test_parallel.py: one step of QAT, its gradients written for each rank."""

import sys
from pathlib import Path

import torch
from tiny_quant import as_input, pictures, tiny_model, tiny_quantized

from yoloq.train.loss_classic import ClassicLoss
from yoloq.train.parallel import Processes, processes
from yoloq.train.qat.dampen import Dampening
from yoloq.train.qat.student import make_student
from yoloq.train.samples import TrainBatch
from yoloq.train.terms.distill import Distillation
from yoloq.train.terms.imitation import Imitation
from yoloq.train.terms.objective import Term, TermSum
from yoloq.train.terms.task import TaskLoss
from yoloq.train.terms.teacher import Teacher, common_blocks

BATCH = 4


def batch() -> TrainBatch:
    """Four pictures; the third has two boxes, the second none."""
    rows = [[0, 1, 0.3, 0.4, 0.2, 0.2], [2, 0, 0.5, 0.5, 0.4, 0.3], [2, 2, 0.7, 0.2, 0.1, 0.3]]
    targets = torch.tensor([*rows, [3, 1, 0.4, 0.8, 0.3, 0.2]])
    images = (as_input(pictures(BATCH)) * 255).round().to(torch.uint8)
    return TrainBatch(images, targets)


Named = dict[str, torch.Tensor]


def step(group: Processes, loss: str, images: TrainBatch | None = None) -> tuple[Named, Named]:
    """Gradients of one step, and the weights after it."""
    torch.manual_seed(0)
    teacher = tiny_model()
    net = make_student(tiny_quantized(), "learned").to(group.device)
    blocks = common_blocks(net, teacher.net)
    terms: list[Term] = []
    if loss != "task":
        terms.append(Imitation(net, Teacher(teacher.net), blocks, Distillation(teacher.head)))
    if loss != "distill":
        terms.append(TaskLoss(ClassicLoss(teacher.head, 64)))
    if loss == "both":
        terms.append(Dampening(net, 0.01, lambda: 1.0))
    objective = TermSum(net, group, terms)
    value, _ = objective(images or batch())
    value.backward()
    gradients = {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}
    torch.optim.AdamW(net.parameters(), 1e-3).step()
    return gradients, {name: value.clone() for name, value in net.state_dict().items()}


def alone(folder: Path) -> None:
    """The same in one process: the whole batch, and either process's share of it.

    Here and not in the tests' own process, where networks may come from a cache that was made with
    other threads: a last bit of a weight decides how a value is rounded.
    """
    one = Processes(0, 1, torch.device("cpu"))
    torch.save(step(one, "distill"), folder / "whole.pt")
    for rank in range(2):
        part = Processes(rank, 2, torch.device("cpu")).share(batch())
        torch.save(step(one, "task", part), folder / f"half-{rank}.pt")


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    torch.set_num_threads(1)
    with processes("cpu", BATCH) as group:
        for loss in ("distill", "task", "both"):
            torch.save(step(group, loss), folder / f"{loss}-{group.rank}.pt")
        if group.first:
            alone(folder)
