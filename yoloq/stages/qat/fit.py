"""The training inside `make qat`: state, plan, objective and batches."""

from collections.abc import Iterator
from dataclasses import asdict, fields
from itertools import islice

from yoloq.base.say import say
from yoloq.stages.qat.epochs import measure_epoch, measure_start
from yoloq.stages.qat.losses import make_terms
from yoloq.stages.qat.setup import QatSetup
from yoloq.stages.run import NOT_INPUTS, existing, package_versions
from yoloq.train.augment import Augment
from yoloq.train.ema import WeightAverage
from yoloq.train.loop import Plan, fit
from yoloq.train.optimizer import Schedule, make_optimizer
from yoloq.train.qat.objective import QatObjective
from yoloq.train.qat.oscillation import Oscillations
from yoloq.train.qat.ranges import learned_steps
from yoloq.train.samples import Sizes, TrainBatch, batches, steps
from yoloq.train.state import Epoch, RunState

STATE = "qat-state.pt"


def train(setup: QatSetup) -> RunState:
    """Fine-tune, or go on where an interrupted run was; the state holds the best epoch.

    Raises:
        UserError: an interrupted run had another configuration, or the training diverges.
    """
    config, state = setup.config, start_state(setup)
    measure_start(setup, state)
    watched = watch_oscillations(setup, state)
    plan = make_plan(setup, watched)

    def validate(epoch: int) -> Epoch:
        shares = {}
        if watched is not None:
            state.extra["oscillations"] = watched.state_dict()
            shares = watched.share()
        some = islice(epoch_batches(setup, epoch), config.bn_reestimate)
        return shares | measure_epoch(setup, state, epoch, some)

    terms = make_terms(setup, state, plan.epochs * plan.steps)
    with QatObjective(setup.student, setup.processes, terms) as objective:
        fit(state, objective, lambda epoch: epoch_batches(setup, epoch), plan, validate)
    return state


def watch_oscillations(setup: QatSetup, state: RunState) -> Oscillations | None:
    """Counts of weights that jump between two integers, where something is done about them."""
    config = setup.config
    if not (config.dampen or config.freeze_oscillating):
        return None
    watched = Oscillations(setup.student, config.freeze_oscillating)
    watched.load_state_dict(state.extra.get("oscillations", {}))
    return watched


def start_state(setup: QatSetup) -> RunState:
    """The run's state: fresh, or that of an interrupted run with the same settings."""
    config, net = setup.config, setup.student
    rate, decay = config.learning_rate, config.weight_decay
    scales = learned_steps(net)
    optimizer = make_optimizer(
        net, config.optimizer, rate, decay, scales, config.range_lr, relative=True
    )
    total = config.epochs * steps(len(setup.pictures), config.batch_size)
    state = RunState(
        config.folder / STATE,
        setup.key,
        net,
        WeightAverage.over(net, config.average * total),
        optimizer,
        settings=settings(setup),
        writes=setup.processes.first,
    )
    if config.force:
        if state.writes:
            state.remove()
        return state
    finished = existing(setup.inputs, "qat")
    state.refuse_other_settings(finished.key if finished else "")
    if state.restore():
        say(f"{state.file}: going on after epoch {len(state.history)}")
    return state


def settings(setup: QatSetup) -> dict[str, str]:
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


def make_plan(setup: QatSetup, watched: Oscillations | None) -> Plan:
    """What the loop needs to know, from the flags."""
    config = setup.config
    return Plan(
        epochs=config.epochs,
        steps=steps(len(setup.pictures), config.batch_size),
        learning_rate=config.learning_rate,
        schedule=Schedule(config.epochs, min(config.warmup, config.epochs / 2)),
        device=setup.device,
        clip=config.clip,
        prepare=lambda net, epoch: net.eval(),  # a norm that cannot be folded keeps its statistics
        after_step=watched.update if watched is not None else lambda: None,
    )


def epoch_batches(setup: QatSetup, epoch: int) -> Iterator[TrainBatch]:
    """The augmented batches of an epoch, at the size in use."""
    config, size = setup.config, setup.inputs.imgsz
    hue, saturation, value = config.hsv
    how = Augment(
        scale=config.scale,
        fliplr=config.fliplr,
        flipud=config.flipud,
        mosaic=config.mosaic,
        hue=hue,
        saturation=saturation,
        value=value,
    )
    sizes = Sizes(size, size, size)
    return batches(setup.pictures, epoch, config.seed, config.batch_size, how, sizes, True)
