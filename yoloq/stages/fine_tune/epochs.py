"""What an epoch is judged by, and which one is kept."""

from dataclasses import replace

from torch import nn

from yoloq.base.say import say
from yoloq.engines.torch import TorchPredictor
from yoloq.geometry.detections import Detections
from yoloq.measure.ap import fidelity, score
from yoloq.measure.evaluate import detect
from yoloq.stages.fine_tune.tuned import Tuned
from yoloq.stages.row import BASELINE
from yoloq.train.state import Epoch, RunState

FIGURE = {"fidelity": "fidelity", "map": "map50_95"}  # column that decides, by --best


def measure_start(setup: Tuned, state: RunState) -> None:
    """Make the untrained network the best so far, as epoch 0, where the state is fresh."""
    if not setup.processes.first or "start" in state.extra:
        return
    figures = evaluate(setup, setup.untrained)
    state.extra["start"] = {"epoch": 0, **figures}
    value = figures[FIGURE[setup.config.best]]
    state.extra["best"] = {"epoch": 0, "value": value, "net": None}
    text = "  ".join(f"{name} {value:.4g}" for name, value in figures.items())
    say(f"epoch 0 ({setup.before})  {text}")


def measure_epoch(setup: Tuned, state: RunState, epoch: int, net: nn.Module) -> Epoch:
    """Figures of a network, that of the averaged weights; kept where they are the best so far."""
    if not setup.processes.first:
        return {}
    figures = evaluate(setup, net)
    value = figures[FIGURE[setup.config.best]]
    if value > state.extra["best"]["value"]:
        kept = {name: tensor.cpu().clone() for name, tensor in net.state_dict().items()}
        state.extra["best"] = {"epoch": epoch + 1, "value": value, "net": kept}
    return figures


def evaluate(setup: Tuned, net: nn.Module) -> Epoch:
    """Fidelity and mAP of a network on the first images of val."""
    inputs, config = setup.inputs, setup.config
    images = inputs.images[: config.val_images or None]
    inputs = replace(inputs, images=images)
    predictor = TorchPredictor(net, inputs.info, setup.device, setup.precision)
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
