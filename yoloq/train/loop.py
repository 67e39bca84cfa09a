"""The one epoch loop, for training from scratch and for QAT."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from yoloq.base.errors import UserError
from yoloq.models.to_input import scaled
from yoloq.train.finite import describe_divergence
from yoloq.train.optimizer import Schedule, set_learning_rate
from yoloq.train.progress import EpochProgress
from yoloq.train.samples import TrainBatch
from yoloq.train.state import Epoch, RunState

Parts = dict[str, Tensor]
Loss = Callable[[list[Tensor], Tensor], tuple[Tensor, Parts]]
Objective = Callable[[TrainBatch], tuple[Tensor, Parts]]
CLIP_NORM = 10.0  # YOLOv5's


@dataclass(frozen=True)
class Plan:
    """How to go through the epochs.

    `steps` is the number of batches an epoch, `amp` runs the network in bfloat16 and channels
    last (the loss stays in float32), `clip` is the largest norm of a step's gradient.
    `prepare(net, epoch)` puts the network into its training mode; `after_step()` may change the
    weights that the optimizer has just set.
    """

    epochs: int
    steps: int
    learning_rate: float
    schedule: Schedule
    device: torch.device
    amp: bool = False
    clip: float = CLIP_NORM
    prepare: Callable[[nn.Module, int], object] = lambda net, epoch: net.train()
    after_step: Callable[[], object] = lambda: None


def fit(
    state: RunState,
    objective: Objective,
    batches: Callable[[int], Iterable[TrainBatch]],
    plan: Plan,
    validate: Callable[[int], Epoch] | None = None,
) -> list[Epoch]:
    """Train `state.net` in place from the state's next epoch on; returns the table of epochs.

    Args:
        state: network, averaged weights, optimizer and history; saved after each epoch.
        objective: batch -> (scalar, named parts); runs the network (see `supervised`).
        batches: epoch -> its batches.
        plan: number of epochs, learning rate, device, precision.
        validate: epoch -> figures for the table, of the averaged weights; {} for none.

    Raises:
        UserError: loss, gradient or weights are no longer finite; names the step and the layer.
    """
    with EpochProgress(plan.epochs, plan.steps, start=len(state.history)) as progress:
        for epoch in range(len(state.history), plan.epochs):
            plan.prepare(state.net, epoch)
            began, means = time.perf_counter(), Means()
            for step, batch in enumerate(batches(epoch)):
                factor = plan.schedule.factor(epoch + step / plan.steps)
                set_learning_rate(state.optimizer, plan.learning_rate * factor)

                place = f"epoch {epoch + 1}, step {step + 1}"
                parts = take_step(state, objective, batch, plan, place)
                means.add(parts)
                progress.step(epoch, means.values())
            row: Epoch = {"epoch": epoch + 1, "lr": plan.learning_rate * factor, **means.values()}
            row["seconds"] = time.perf_counter() - began
            progress.validating(epoch)
            row |= validate(epoch) if validate else {}
            state.history.append(row)
            state.save()
            progress.report(row)
    return state.history


def take_step(
    state: RunState, objective: Objective, batch: TrainBatch, plan: Plan, place: str
) -> Parts:
    """One step of the optimizer on a batch; returns the loss's parts.

    Raises:
        UserError: loss, gradient or weights are not finite; names `place` and the layer.
    """
    value, parts = objective(batch)
    state.optimizer.zero_grad()
    value.backward()
    norm = gradient_norm(state.net)
    if not torch.isfinite(value + norm + weight_norm(state.net)):
        raise UserError(describe_divergence(state.net, batch.images, place))
    nn.utils.clip_grads_with_norm_(state.net.parameters(), plan.clip, norm)
    state.optimizer.step()
    plan.after_step()
    state.average.update(state.net)
    return parts


def gradient_norm(net: nn.Module) -> Tensor:
    """Euclidean norm of all gradients together."""
    return nn.utils.get_total_norm([p.grad for p in net.parameters() if p.grad is not None])


def weight_norm(net: nn.Module) -> Tensor:
    """Euclidean norm of all weights together; rounding to integers hides a NaN from the loss."""
    return nn.utils.get_total_norm([p.detach() for p in net.parameters()])


def supervised(net: nn.Module, loss: Loss, plan: Plan) -> Objective:
    """The objective of a loss on raw maps and targets."""

    def objective(batch: TrainBatch) -> tuple[Tensor, Parts]:
        return loss(forward(net, batch.images, plan), batch.targets.to(plan.device))

    return objective


def forward(net: nn.Module, images: Tensor, plan: Plan) -> list[Tensor]:
    """Raw maps in float32 of uint8 images (N, 3, H, W)."""
    x = scaled(images, plan.device)
    if plan.amp:
        x = x.to(memory_format=torch.channels_last)
    with torch.autocast(plan.device.type, torch.bfloat16, enabled=plan.amp):
        raws = net(x)
    return [raw.float() for raw in raws]


class Means:
    """Running means of named scalars, kept as tensors so that a GPU need not wait."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.count = 0

    def add(self, parts: dict[str, Tensor]) -> None:
        """Count one more step."""
        self.sums = {name: self.sums.get(name, 0) + part for name, part in parts.items()}
        self.count += 1

    def values(self) -> dict[str, float]:
        """The means so far."""
        return {name: float(total) / self.count for name, total in self.sums.items()}
