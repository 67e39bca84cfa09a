"""The training inside `make qat`: from the setup to the state that holds the best epoch."""

import copy
from collections.abc import Iterator
from functools import partial
from itertools import islice

from torch import nn

from yoloq.base.say import say
from yoloq.models.to_input import scaled
from yoloq.stages.fine_tune.epochs import measure_epoch, measure_start
from yoloq.stages.fine_tune.fit import epoch_batches, make_plan, start_state
from yoloq.stages.qat.losses import make_terms
from yoloq.stages.qat.setup import QatSetup
from yoloq.train.loop import fit
from yoloq.train.qat.oscillation import Oscillations
from yoloq.train.qat.ranges import forget, learned_steps
from yoloq.train.qat.reestimate import reestimate
from yoloq.train.samples import TrainBatch
from yoloq.train.state import Epoch, RunState
from yoloq.train.terms.objective import TermSum


def train(setup: QatSetup) -> RunState:
    """Fine-tune, or go on where an interrupted run was; the state holds the best epoch.

    Raises:
        UserError: an interrupted run had another configuration, or the training diverges.
    """
    config, net = setup.config, setup.student
    if setup.per_epoch < (total := len(setup.pictures)):
        say(
            f"qat: {setup.per_epoch} of {total} images of train an epoch, others in each "
            "(--epoch-images 0: all)"
        )
    state = start_state(setup, learned_steps(net), config.range_lr)
    measure_start(setup, state)
    watched = watch_oscillations(setup, state)
    plan = make_plan(setup) if watched is None else make_plan(setup, watched.update)

    def validate(epoch: int) -> Epoch:
        shares = {}
        if watched is not None:
            state.extra["oscillations"] = watched.state_dict()
            shares = watched.share()
        some = islice(epoch_batches(setup, epoch), config.bn_reestimate)
        return shares | measure_epoch(setup, state, epoch, measured_net(setup, state, some))

    terms = make_terms(setup, state, plan.epochs * plan.steps)
    with TermSum(net, setup.processes, terms, partial(forget, net)) as objective:
        fit(state, objective, lambda epoch: epoch_batches(setup, epoch), plan, validate)
    return state


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
