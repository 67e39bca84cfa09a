"""`--layers auto`: the blocks whose swap loses least for the time that it saves."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from yoloq.base.config import StageConfig
from yoloq.base.errors import EngineError
from yoloq.base.files import write_text
from yoloq.base.machine import affinity
from yoloq.base.say import progress, say
from yoloq.data.loader import iterate, sample
from yoloq.engines.base import Engine
from yoloq.measure.layer_times import LayerTimes, times_in_turn
from yoloq.measure.places import PlaceError
from yoloq.models.layered import IMAGE, LayeredNet
from yoloq.models.load import LoadedModel
from yoloq.models.swap import silu_layers, swapped
from yoloq.models.to_input import to_input
from yoloq.quant.policy import block_of, matches
from yoloq.report.tables import show
from yoloq.stages.fine_tune import TuneConfig
from yoloq.stages.run import Inputs
from yoloq.stages.swap import SwapConfig
from yoloq.stages.swap.origin import SwapSetup
from yoloq.stages.swap.speed import make_source

CHOICE = "swap-layers.json"
RUNS = 100  # of each profile, over all rounds


@dataclass(frozen=True)
class BlockGain:
    """A numbered block: what the swap of it alone loses, untrained, and what it saves in int8.

    `loss` is the error of boxes and scores at their places (`PlaceError.power`); the times are of
    all the block's layers.
    """

    name: str
    loss: float
    silu_ms: float
    swapped_ms: float
    chosen: bool = False

    @property
    def saved_ms(self) -> float:
        """Milliseconds that the swap saves; negative where it costs time."""
        return self.silu_ms - self.swapped_ms


def choose_by_gain(inputs: Inputs, config: SwapConfig, engine: Engine) -> list[BlockGain]:
    """Measure all blocks with a SiLU, mark those to swap, print and keep the table.

    A choice that was made for the same subject is taken as it is, so that an interrupted run goes
    on with the same network, and one with another learning rate has it too.

    Raises:
        EngineError: the engine has no profile, or no block gets faster.
    """
    file, training = config.folder / CHOICE, {field.name for field in fields(TuneConfig)}
    without = training - {field.name for field in fields(StageConfig)}
    key = inputs.key("swap-layers", sorted(without), timed=True, engine=engine.name)
    kept = None if config.force else _read(file, key)
    if kept is not None:
        say(f"{file}: the layers were chosen before")
        blocks = kept
    else:
        blocks = measured(inputs, config, engine)
        names = cheapest(blocks, config.share)
        if not names:
            raise EngineError(
                f"--layers auto: no block gets faster with {config.activation} in {engine.name}; "
                "name layers, or another --activation"
            )
        blocks = [replace(block, chosen=block.name in names) for block in blocks]
        content = {"key": key, "blocks": [asdict(block) for block in blocks]}
        write_text(file, json.dumps(content, indent=1) + "\n")
    show(rendered(blocks))
    return blocks


def _read(file: Path, key: str) -> list[BlockGain] | None:
    """The table in a file, if it is of this key."""
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return [BlockGain(**item) for item in content["blocks"]] if content["key"] == key else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def cheapest(blocks: Sequence[BlockGain], share: float) -> list[str]:
    """Names of blocks, least loss per saved millisecond first, until they save enough.

    Args:
        share: of what all blocks that get faster save together.
    """
    faster = [block for block in blocks if block.saved_ms > 0]
    enough = share * sum(block.saved_ms for block in faster)
    names: list[str] = []
    saved = 0.0
    for block in sorted(faster, key=lambda block: block.loss / block.saved_ms):
        if saved >= enough:
            break
        names.append(block.name)
        saved += block.saved_ms
    return names


def measured(inputs: Inputs, config: SwapConfig, engine: Engine) -> list[BlockGain]:
    """Loss and times of every block with a SiLU, in order."""
    if engine.profile is None or engine.simulated:
        raise EngineError(
            f"--layers auto: {engine.name} gives no times by layer; take another --engine, or name "
            "the layers"
        )
    names = silu_layers(inputs.model.net)
    blocks = list(dict.fromkeys(block_of(name) for name in names))
    other = swapped(inputs.model, names, config.activation)
    losses = block_losses(inputs.model, other, blocks, _screened(inputs, config))
    before, after = profiles(inputs, other, config, engine)
    return [
        BlockGain(name, losses[name], _of_block(before, name), _of_block(after, name))
        for name in blocks
    ]


def _screened(inputs: Inputs, config: SwapConfig) -> Iterator[Tensor]:
    """Images of train as the network takes them."""
    files = sample(inputs.dataset.train_alone(SwapSetup.use), config.screen, config.seed)
    with progress("loss by block", len(files)) as advance:
        for batch in iterate(files, inputs.imgsz, config.batch_size, config.workers, []):
            yield to_input(batch.images, torch.device("cpu"))
            advance(len(batch.images))


@torch.no_grad()
def block_losses(
    model: LoadedModel, other: LoadedModel, blocks: Sequence[str], batches: Iterable[Tensor]
) -> dict[str, float]:
    """`PlaceError.power` of the network in which one block alone is the other model's, by block.

    What lies in front of a block is computed once for all that follow.

    Args:
        batches: (N, 3, H, W) in 0..1.
    """
    net, swap = cast(LayeredNet, model.net), cast(LayeredNet, other.net)
    last = len(net.model)
    errors = {name: PlaceError(model.head) for name in blocks}
    for x in batches:
        wanted, state = [raw.numpy() for raw in net(x)], {IMAGE: x}
        for index in range(last):
            name = f"model.{index}"
            if name in blocks:
                after = net.advance(swap.advance(state, index, index + 1), index + 1, last)
                errors[name].add(wanted, [raw.numpy() for raw in after[last - 1]])
            state = net.advance(state, index, index + 1)
    return {name: error.power for name, error in errors.items()}


def profiles(
    inputs: Inputs, other: LoadedModel, config: SwapConfig, engine: Engine
) -> tuple[LayerTimes, LayerTimes]:
    """Times by layer in int8, of the original and of the network with every SiLU swapped."""
    say(f"{engine.name}: building and profiling int8 with and without SiLU")
    sources = {
        name: (make_source(replace(inputs, model=model), config, engine), "int8")
        for name, model in {"silu": inputs.model, "swapped": other}.items()
    }
    threads = config.threads or len(affinity())
    times = times_in_turn(engine, sources, config.folder, config.device, threads, RUNS)
    return times["silu"], times["swapped"]


def _of_block(times: LayerTimes, block: str) -> float:
    """Milliseconds of all that belongs to a block."""
    own = sum(ms for name, ms in times.layers.items() if matches(name, block))
    return own + times.others.get(block, 0.0)


def rendered(blocks: Sequence[BlockGain]) -> list[list[str]]:
    """The table, least loss per saved millisecond first; header and cells."""
    faster = sorted(
        (block for block in blocks if block.saved_ms > 0), key=lambda b: b.loss / b.saved_ms
    )
    rows = [["Block", "Loss", "SiLU ms", "Swapped ms", "Saved ms", "Loss per ms", "Swap"]]
    for block in [*faster, *(block for block in blocks if block.saved_ms <= 0)]:
        rate = f"{block.loss / block.saved_ms:.4f}" if block.saved_ms > 0 else "-"
        times = (f"{ms:.3f}" for ms in (block.silu_ms, block.swapped_ms, block.saved_ms))
        rows.append(
            [block.name, f"{block.loss:.5f}", *times, rate, "yes" if block.chosen else "no"]
        )
    return rows
