"""What an epoch of `make qat` is judged by, and which one is kept."""

import copy
from collections.abc import Iterator
from dataclasses import replace

from torch import nn

from yoloq.base.say import say
from yoloq.engines.torch import TorchPredictor
from yoloq.geometry.detections import Detections
from yoloq.measure.ap import fidelity, score
from yoloq.measure.evaluate import detect
from yoloq.models.to_input import scaled
from yoloq.stages.qat.setup import QatSetup
from yoloq.stages.row import BASELINE
from yoloq.train.qat.reestimate import reestimate
from yoloq.train.samples import TrainBatch
from yoloq.train.state import Epoch, RunState

FIGURE = {"fidelity": "fidelity", "map": "map50_95"}  # column that decides, by --best


def measure_start(setup: QatSetup, state: RunState) -> None:
    """Make PTQ the best so far, as epoch 0, where the state is fresh."""
    if not setup.processes.first or "start" in state.extra:
        return
    figures = evaluate(setup, setup.calibrated.model.net)
    state.extra["start"] = {"epoch": 0, **figures}
    value = figures[FIGURE[setup.config.best]]
    state.extra["best"] = {"epoch": 0, "value": value, "net": None}
    say(f"epoch 0 (PTQ)  {'  '.join(f'{name} {value:.4g}' for name, value in figures.items())}")


def measure_epoch(
    setup: QatSetup, state: RunState, epoch: int, batches: Iterator[TrainBatch]
) -> Epoch:
    """Figures of the averaged weights; keeps them where they are the best so far.

    `batches` are for the statistics of batch norm, where they are re-estimated.
    """
    if not setup.processes.first:
        return {}
    net = state.average.net
    if setup.config.bn_reestimate:
        net = copy.deepcopy(net)
        reestimate(net, (scaled(batch.images, setup.device) for batch in batches))
    figures = evaluate(setup, net)
    value = figures[FIGURE[setup.config.best]]
    if value > state.extra["best"]["value"]:
        kept = {name: tensor.cpu().clone() for name, tensor in net.state_dict().items()}
        state.extra["best"] = {"epoch": epoch + 1, "value": value, "net": kept}
    return figures


def evaluate(setup: QatSetup, net: nn.Module) -> Epoch:
    """Fidelity and mAP of a quantized network on the first images of val."""
    inputs, config = setup.inputs, setup.config
    images = inputs.images[: config.val_images or None]
    inputs = replace(inputs, images=images)
    predictor = TorchPredictor(net, inputs.info, setup.device, "int8")
    found = detect(
        predictor,
        images,
        imgsz=inputs.imgsz,
        batch_size=config.batch_size,
        workers=config.workers,
        progress=False,
        one_class=inputs.dataset.one_class,
    )
    baseline = Detections.load(config.folder / BASELINE).first(len(images))
    alike = fidelity(baseline, found, inputs.nc)
    ours = score(inputs.truth, found, inputs.nc)
    return {"fidelity": alike, "map50_95": ours.map50_95, "map50": ours.map50}
