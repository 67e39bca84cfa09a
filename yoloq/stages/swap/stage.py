"""Another activation in the place of SiLU: swap, distil from the original, measure and time."""

import copy
import time
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import torch
from torch import nn

from yoloq.base.files import write_text
from yoloq.base.machine import torch_device
from yoloq.base.result import MACHINE, Row, StageResult, input_key
from yoloq.base.say import say
from yoloq.data.loader import sample
from yoloq.engines import get_engine
from yoloq.engines.torch import TorchPredictor
from yoloq.geometry.detections import Detections
from yoloq.models.load import load_model, save_model
from yoloq.models.swap import silu_layers, swapped
from yoloq.quant.policy import block_of
from yoloq.stages.baseline import BaselineConfig
from yoloq.stages.baseline.stage import run as run_baseline
from yoloq.stages.end import command
from yoloq.stages.fine_tune.chart import draw_curves
from yoloq.stages.fine_tune.epochs import measure_epoch, measure_start
from yoloq.stages.fine_tune.fit import epoch_batches, make_plan, start_state
from yoloq.stages.fine_tune.together import run_together
from yoloq.stages.fine_tune.tuned import imitation, train_files
from yoloq.stages.row import BASELINE, accuracy, find
from yoloq.stages.run import Inputs, earlier, finished, open_inputs
from yoloq.stages.swap import SwapConfig
from yoloq.stages.swap.gain import CHOICE, choose_by_gain
from yoloq.stages.swap.least_squares import fit_weights
from yoloq.stages.swap.named import chosen_layers
from yoloq.stages.swap.origin import SwapSetup
from yoloq.stages.swap.speed import PRECISIONS, engine_rows, ratio
from yoloq.train.loop import fit
from yoloq.train.parallel import Processes
from yoloq.train.state import Epoch, RunState, table
from yoloq.train.terms.objective import TermSum

WEIGHTS, TABLE, CURVE = "swap.pt", "swap.csv", "swap.png"


def run(config: SwapConfig) -> StageResult:
    """Write `swap.pt` (a checkpoint like any other), `swap.json`, its table, and the epochs.

    A run that was interrupted goes on from its last whole epoch. Under `torchrun` the first process
    writes.

    Raises:
        UserError: an input cannot be used, a pattern matches no SiLU, an interrupted run had
            another configuration, or the training diverges.
    """
    finisher = partial(finish, began=time.perf_counter())
    return run_together(config, config.folder / "swap.json", open_setup, train, finisher)


def next_step(config: SwapConfig, found: StageResult) -> str:
    """Calibrate what was made; a folder of its own keeps the original's results."""
    made = replace(config, weights=str(config.folder / WEIGHTS), name="")
    return command(made, "ptq")


def open_setup(config: SwapConfig, group: Processes) -> SwapSetup | StageResult:
    """Open and check everything that training starts from; or the result that is there already."""
    engine = get_engine(config.engine, config.device)
    inputs = open_inputs(config)
    patterns = ("*",) if config.by_gain else config.layers
    layers = chosen_layers(inputs.model.net, patterns, str(config.weights))
    train_files(inputs, config, SwapSetup.use)
    baseline = earlier(inputs, "baseline", run_baseline, BaselineConfig)
    key = inputs.key("swap", timed=True, engine=engine.name, processes=group.world)
    done = finished(config.folder, "swap", key, config.force)
    if done is not None:
        told(done, config.folder)
        return done
    inputs = inputs.without([Path(name) for name in baseline.notes["skipped"]])
    blocks = choose_by_gain(inputs, config, engine) if config.by_gain else []
    chosen = {block.name for block in blocks if block.chosen}
    layers = tuple(name for name in layers if not blocks or block_of(name) in chosen)
    say(f"swap: {config.activation} for SiLU in {len(layers)} of {total(inputs)} layers")
    made = swapped(inputs.model, layers, config.activation)
    start = replace(made, net=copy.deepcopy(made.net))
    if config.fit:
        files = sample(train_files(inputs, config, SwapSetup.use), config.fit, config.seed)
        fit_weights(inputs.model, start, files, inputs.imgsz, config.seed)
    return SwapSetup(
        inputs=inputs,
        config=config,
        processes=group,
        teacher=inputs.model,
        # a training may go on where another machine took the times
        key=input_key(subject=key.partition(MACHINE)[0], layers=layers),
        hashes={"weights": inputs.model.sha256[:12], "data": inputs.dataset.sha256[:12]},
        swapped=made,
        start=start,
        layers=layers,
        blocks=[asdict(block) for block in blocks],
        result_key=key,
    )


def total(inputs: Inputs) -> int:
    """Number of SiLUs of the original."""
    return len(silu_layers(inputs.model.net))


def train(setup: SwapSetup) -> RunState:
    """Teach the swapped network, or go on where an interrupted run was.

    Raises:
        UserError: an interrupted run had another configuration, or the training diverges.
    """
    setup.teacher.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    state, plan = start_state(setup), make_plan(setup)
    measure_start(setup, state)

    def validate(epoch: int) -> Epoch:
        return measure_epoch(setup, state, epoch, state.average.net)

    with TermSum(setup.student, setup.processes, [imitation(setup)]) as objective:
        fit(state, objective, lambda epoch: epoch_batches(setup, epoch), plan, validate)
    return state


def finish(setup: SwapSetup, state: RunState, began: float) -> StageResult:
    """Write the best epoch's model, measure and time what was written, and write the result."""
    config, inputs, epochs = setup.config, setup.inputs, state.rows()
    folder, best = config.folder, state.extra["best"]
    save(setup, best_net(setup, state))
    write_text(folder / TABLE, table(epochs))
    draw_curves(folder / CURVE, epochs, best["epoch"], "Swap", setup.before)
    after = replace(inputs, model=load_model(folder / WEIGHTS))
    engine = get_engine(config.engine, config.device)
    timed = engine_rows(inputs, after, config, engine)
    rows = [*float_rows(setup, after), *timed]
    artifacts = {"model": WEIGHTS, "table": TABLE, "curve": CURVE}
    result = inputs.result(
        "swap",
        setup.result_key,
        rows,
        artifacts=artifacts | ({"choice": CHOICE} if setup.blocks else {}),
        seconds={
            "train": sum(epoch["seconds"] for epoch in state.history),
            "total": time.perf_counter() - began,
        },
        notes={
            "training": setup.key,
            "layers": setup.layers,
            "blocks": setup.blocks,
            "best": {key: best[key] for key in ("epoch", "value")},
            "epochs": epochs,
            "time_ratio": {each: ratio(timed, each) for each in PRECISIONS},
        },
    )
    result.write(folder / "swap.json")
    state.remove()
    told(result, folder)
    return result


def save(setup: SwapSetup, net: nn.Module) -> None:
    """Write `swap.pt`, with what was swapped."""
    made = {
        "activation": setup.config.activation,
        "layers": setup.layers,
        "of": setup.inputs.model.sha256,
    }
    model = replace(setup.swapped, net=net, imgsz=setup.inputs.imgsz)
    save_model(setup.config.folder / WEIGHTS, model, swapped=made)


def float_rows(setup: SwapSetup, after: Inputs) -> list[Row]:
    """The original, the swapped, the fitted and the trained network in PyTorch."""
    inputs, device = setup.inputs, torch_device(setup.config.device)
    baseline = Detections.load(setup.config.folder / BASELINE)
    rows = [Row("Original", "fp32", "torch", **accuracy(inputs, baseline, baseline))]
    nets = {"Swapped": setup.swapped.net, "Fitted": setup.start.net, "Trained": after.model.net}
    if not setup.config.fit:
        del nets["Fitted"]
    for name, net in nets.items():
        predictor = TorchPredictor(net, inputs.info, device, "fp32")
        found = find(inputs, predictor, title=f"detect, {name.lower()}")
        rows.append(Row(name, "fp32", "torch", **accuracy(inputs, found, baseline)))
    return rows


def told(result: StageResult, folder: Path) -> None:
    """Say what the swap did, in a line each."""
    best, ratios = result.notes["best"], result.notes["time_ratio"]
    if not best["epoch"]:
        say(f"swap: no epoch was better than the untrained network; {WEIGHTS} holds that")
    for precision, share in ratios.items():
        if share is not None:
            say(f"swap: {precision} takes {share:.3f} of the time that it takes with SiLU")
    say(f"swap: {folder / WEIGHTS} is a checkpoint like any other (WEIGHTS=)")


def best_net(setup: SwapSetup, state: RunState) -> nn.Module:
    """The network of the best epoch, on the CPU; epoch 0 is the untrained one."""
    kept = state.extra["best"]["net"]
    if kept is None:
        return setup.start.net.cpu()
    state.average.net.load_state_dict(kept)
    return state.average.net.cpu()
