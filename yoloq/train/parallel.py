"""Data-parallel processes as `torchrun` starts them; one process where it did not."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import distributed, nn

from yoloq.base.errors import UserError
from yoloq.base.machine import torch_device
from yoloq.base.ranks import launched, process_group
from yoloq.train.samples import TrainBatch


@dataclass(frozen=True)
class Processes:
    """This process's number and how many there are; the first one writes."""

    rank: int
    world: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this process writes files and speaks to the user."""
        return self.rank == 0

    @contextlib.contextmanager
    def first_before_others(self) -> Iterator[None]:
        """Run a block in the first process, then in the others, which find its files there."""
        if self.world > 1 and not self.first:
            distributed.barrier()
        yield
        if self.world > 1 and self.first:
            distributed.barrier()

    def replicate(self, net: nn.Module) -> nn.Module:
        """The network as it has to be called: with gradients averaged over the processes."""
        if self.world == 1:
            return net
        devices = [self.device] if self.device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(net, device_ids=devices)

    def share(self, batch: TrainBatch) -> TrainBatch:
        """This process's images of a batch: every `world`-th one."""
        if self.world == 1:
            return batch
        image = batch.targets[:, 0]
        mine = batch.targets[image % self.world == self.rank].clone()
        mine[:, 0] = mine[:, 0].div(self.world, rounding_mode="floor")
        return TrainBatch(batch.images[self.rank :: self.world], mine)


@contextlib.contextmanager
def processes(device: str, batch_size: int) -> Iterator[Processes]:
    """Join the group that `torchrun` describes in the environment, for the length of a block.

    Args:
        device: as the user gives it; with several CUDA processes each takes its own GPU.
        batch_size: images of all processes together.

    Raises:
        UserError: the batch cannot be split evenly, or the device is not there.
    """
    own = launched()
    if own.world == 1:
        yield Processes(0, 1, torch_device(device))
        return
    if batch_size % own.world:
        many = f"the {own.world} processes"
        raise UserError(f"--batch-size {batch_size}: must be a multiple of {many}")
    place = torch_device(device)
    if place.type == "cuda":
        place = torch_device(os.environ.get("LOCAL_RANK", "0"))
        torch.cuda.set_device(place)
    backend = "nccl" if place.type == "cuda" else "gloo"
    with process_group(backend), _silent(own.rank > 0):
        yield Processes(own.rank, own.world, place)


@contextlib.contextmanager
def _silent(wanted: bool) -> Iterator[None]:
    """Keep what would be said several times off the screen."""
    if not wanted:
        yield
        return
    with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.redirect_stderr(nowhere):
        yield
