"""The training inside `make qat` and `make swap`: state, plan, batches."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields

from torch import nn

from yoloq.base.say import say
from yoloq.stages.fine_tune.tuned import Tuned
from yoloq.stages.run import NOT_INPUTS, existing, package_versions
from yoloq.train.augment import Augment
from yoloq.train.ema import WeightAverage
from yoloq.train.loop import Plan
from yoloq.train.optimizer import Schedule, make_optimizer
from yoloq.train.samples import Sizes, TrainBatch, batches, steps
from yoloq.train.state import RunState


def start_state(
    setup: Tuned, scales: Sequence[nn.Parameter] = (), scale_rate: float = 1.0
) -> RunState:
    """The run's state: fresh, or that of an interrupted run with the same settings.

    Args:
        scales, scale_rate: as of `make_optimizer`.

    Raises:
        UserError: an interrupted run had another configuration.
    """
    config, net = setup.config, setup.student
    rate, decay = config.learning_rate, config.weight_decay
    optimizer = make_optimizer(
        net, config.optimizer, rate, decay, scales, scale_rate, relative=True
    )
    total = config.epochs * steps(setup.per_epoch, config.batch_size)
    state = RunState(
        config.folder / f"{setup.stage}-state.pt",
        setup.key,
        net,
        WeightAverage.over(net, config.average * total),
        optimizer,
        settings=settings(setup),
        writes=setup.processes.first,
    )
    if config.force:
        if state.writes:
            for left in config.folder.glob(f"{setup.stage}*-state.*"):  # of later phases as well
                left.unlink()
        return state
    finished = existing(setup.inputs, setup.stage)
    state.refuse_other_settings(finished.notes.get("training", finished.key) if finished else "")
    if state.restore():
        say(f"{state.file}: going on after epoch {len(state.history)}")
    return state


def settings(setup: Tuned) -> dict[str, str]:
    """What must not change while a run is interrupted, readable."""
    flags = {f"--{field.name.replace('_', '-')}": field.name for field in fields(setup.config)}
    values = asdict(setup.config)
    given = {
        flag: str(values[name])
        for flag, name in flags.items()
        if name not in (*NOT_INPUTS, "weights", "data")
    }
    versions = {name: str(version) for name, version in package_versions().items()}
    own = {"imgsz": str(setup.inputs.imgsz), "processes": str(setup.processes.world)}
    return given | versions | own | setup.hashes


def make_plan(setup: Tuned) -> Plan:
    """What the loop needs to know, from the flags."""
    config = setup.config
    return Plan(
        epochs=config.epochs,
        steps=steps(setup.per_epoch, config.batch_size),
        learning_rate=config.learning_rate,
        schedule=Schedule(config.epochs, min(config.warmup, config.epochs / 2)),
        device=setup.device,
        clip=config.clip,
        prepare=lambda net, epoch: net.eval(),  # a norm that cannot be folded keeps its statistics
    )


def epoch_batches(setup: Tuned, epoch: int) -> Iterator[TrainBatch]:
    """The augmented batches of an epoch, at the size in use."""
    config, size = setup.config, setup.inputs.imgsz
    hue, saturation, value = config.hsv
    how = Augment(
        scale=config.scale,
        fliplr=config.fliplr,
        flipud=config.flipud,
        mosaic=setup.mosaic,
        hue=hue,
        saturation=saturation,
        value=value,
    )
    sizes = Sizes(size, size, size)
    some = setup.per_epoch
    return batches(setup.pictures, epoch, config.seed, config.batch_size, how, sizes, True, some)
