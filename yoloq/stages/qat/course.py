"""The training inside `make qat`: from the setup to the best epoch."""

import copy
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import islice

from torch import nn

from yoloq.base.say import say
from yoloq.models.to_input import scaled
from yoloq.stages.fine_tune.epochs import FIGURE, measure_epoch, measure_start
from yoloq.stages.fine_tune.fit import epoch_batches, make_plan, start_state
from yoloq.stages.qat.corrected import correction_of
from yoloq.stages.qat.losses import make_terms
from yoloq.stages.qat.setup import QatSetup
from yoloq.stages.qat.trained import Phase, Trained
from yoloq.train.loop import fit
from yoloq.train.qat.arrival import Arrivals
from yoloq.train.qat.oscillation import Oscillations
from yoloq.train.qat.ranges import forget
from yoloq.train.qat.reestimate import reestimate
from yoloq.train.samples import TrainBatch
from yoloq.train.state import Epoch, RunState
from yoloq.train.terms.objective import TermSum


def train(setup: QatSetup) -> Trained:
    """Fine-tune, then correct where that is wanted; or go on where an interrupted run was.

    Raises:
        UserError: an interrupted run had another configuration, or the training diverges.
    """
    if setup.per_epoch < (total := len(setup.pictures)):
        say(
            f"qat: {setup.per_epoch} of {total} images of train an epoch, others in each "
            "(--epoch-images 0: all)"
        )
    first = train_phase(setup)
    if not setup.config.correct:
        return Trained((first,))
    return Trained((first, train_phase(correction_of(first))))


def train_phase(setup: QatSetup) -> Phase:
    """Train a setup's student through its epochs; the state holds the best of them."""
    config, net, reached = setup.config, setup.student, setup.reached
    state = start_state(setup, *setup.scales)
    if reached is not None and "start" not in state.extra:
        value = reached[FIGURE[config.best]]
        state.extra |= {"start": reached, "best": {"epoch": 0, "value": value, "net": None}}
    measure_start(setup, state)
    if not config.epochs:
        return Phase(setup, state)
    watched = watch_oscillations(setup, state)
    plan = make_plan(setup)
    arrivals = Arrivals(net, setup.order, plan.epochs * plan.steps)
    arrivals.at(state.average.updates)

    def after_step() -> None:
        if watched is not None:
            watched.update()
        arrivals.at(state.average.updates + 1)

    def validate(epoch: int) -> Epoch:
        shares = {"joined": arrivals.share()} if setup.order else {}
        if watched is not None:
            state.extra["oscillations"] = watched.state_dict()
            shares |= watched.share()
        some = islice(epoch_batches(setup, setup.behind + epoch), config.bn_reestimate)
        return shares | measure_epoch(setup, state, epoch, measured_net(setup, state, some))

    terms = make_terms(setup, state, plan.epochs * plan.steps)
    with TermSum(net, setup.processes, terms, partial(forget, net)) as objective:
        batches = partial(epoch_batches, setup)
        plan = replace(plan, after_step=after_step)
        fit(state, objective, lambda epoch: batches(setup.behind + epoch), plan, validate)
    return Phase(setup, state)


def measured_net(setup: QatSetup, state: RunState, batches: Iterator[TrainBatch]) -> nn.Module:
    """The averaged weights; with the statistics of batch norm of these batches, if so wanted."""
    net = state.average.net
    if setup.config.bn_reestimate and setup.processes.first:
        net = copy.deepcopy(net)
        reestimate(net, (scaled(batch.images, setup.device) for batch in batches))
    return net


def watch_oscillations(setup: QatSetup, state: RunState) -> Oscillations | None:
    """Counts of weights that jump between two integers, where something is done about them."""
    config = setup.config
    if not (config.dampen or config.freeze_oscillating):
        return None
    watched = Oscillations(setup.student, config.freeze_oscillating)
    watched.load_state_dict(state.extra.get("oscillations", {}))
    return watched
