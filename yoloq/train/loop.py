"""The one epoch loop, for training from scratch and for QAT."""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from yoloq.base.errors import UserError
from yoloq.models.to_input import scaled
from yoloq.train.finite import REMEDY, describe_divergence
from yoloq.train.optimizer import Schedule, set_learning_rate
from yoloq.train.progress import EpochProgress
from yoloq.train.samples import TrainBatch
from yoloq.train.state import Epoch, RunState

Parts = dict[str, Tensor]
Loss = Callable[[list[Tensor], Tensor], tuple[Tensor, Parts]]
Objective = Callable[[TrainBatch], tuple[Tensor, Parts]]
CLIP_NORM = 10.0  # YOLOv5's
EVERY = 20  # steps between two looks at a GPU's results, each of which waits for it


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
            health = Health(plan, f"epoch {epoch + 1}")
            for step, batch in enumerate(batches(epoch)):
                factor = plan.schedule.factor(epoch + step / plan.steps)
                set_learning_rate(state.optimizer, plan.learning_rate * factor)

                means.add(take_step(state, objective, batch, plan, health))
                progress.step(epoch, means.values() if health.is_read else None)
            row: Epoch = {"epoch": epoch + 1, "lr": plan.learning_rate * factor, **means.values()}
            row["seconds"] = time.perf_counter() - began
            progress.validating(epoch)
            row |= validate(epoch) if validate else {}
            state.history.append(row)
            state.save()
            progress.report(row)
    return state.history


def take_step(
    state: RunState, objective: Objective, batch: TrainBatch, plan: Plan, health: "Health"
) -> Parts:
    """One step of the optimizer on a batch; returns the loss's parts.

    Raises:
        UserError: loss, gradient or weights are not finite; names the step, and the layer where
            it is noticed in that step.
    """
    value, parts = objective(batch)
    state.optimizer.zero_grad()
    value.backward()
    norm = gradient_norm(state.net)
    if place := health.failed(value.detach() + norm + weight_norm(state.net)):
        if health.is_late:  # the weights are those of a later step
            raise UserError(f"loss, gradient or weights are not finite in {place}; {REMEDY}")
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


class Health:
    """Whether every step of an epoch was finite, and which was the first that was not.

    Reading it from a GPU waits for what the GPU still has to do, so that is done every `EVERY`
    steps and in the last; a step on a CPU is looked at before it changes the weights.

    Args:
        plan: its device and number of steps.
        epoch: as a message names it.
    """

    def __init__(self, plan: Plan, epoch: str) -> None:
        self.epoch, self.last = epoch, plan.steps
        self.every = 1 if plan.device.type == "cpu" else EVERY
        self.step = 0
        self.first = torch.full((), math.inf, device=plan.device)

    @property
    def is_read(self) -> bool:
        """Whether this step is one in which the GPU is waited for."""
        return self.step % self.every == 0 or self.step == self.last

    @property
    def is_late(self) -> bool:
        """Whether the first step that was not finite lies behind."""
        return float(self.first) < self.step

    def failed(self, sound: Tensor) -> str:
        """Which step was the first that was not finite; empty if none was, or none is known yet.

        Args:
            sound: () of the next step; finite if all of it is.
        """
        self.step += 1
        here = torch.where(torch.isfinite(sound), math.inf, float(self.step))
        self.first = torch.minimum(self.first, here)
        if not self.is_read or math.isinf(first := float(self.first)):
            return ""
        return f"{self.epoch}, step {first:.0f}"


class Means:
    """Running means of named scalars, kept as tensors until they are read."""

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
