"""QAT: fine-tune the calibrated model with fake quantization; never return less than PTQ."""

import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from yoloq.base.errors import CheckpointError, PolicyError, UserError
from yoloq.base.files import write_text
from yoloq.base.own_files import MAKE
from yoloq.base.result import StageResult
from yoloq.base.say import say
from yoloq.data.loader import iterate, sample
from yoloq.models.load import load_model
from yoloq.models.to_input import to_input
from yoloq.quant.observer import collect
from yoloq.quant.placed import placed
from yoloq.quant.policy import check_patterns
from yoloq.quant.quantized import QuantizedModel, load_quantized, save_quantized
from yoloq.quant.trace import conv_inputs
from yoloq.stages.baseline import BaselineConfig
from yoloq.stages.baseline.stage import run as run_baseline
from yoloq.stages.end import command
from yoloq.stages.fine_tune.chart import draw_curves
from yoloq.stages.fine_tune.epochs import FIGURE
from yoloq.stages.fine_tune.together import run_together
from yoloq.stages.fine_tune.tuned import train_files
from yoloq.stages.qat import QatConfig
from yoloq.stages.qat.calibration import calibrated_as, check_policy
from yoloq.stages.qat.corrected import check_correctable
from yoloq.stages.qat.course import train
from yoloq.stages.qat.order import BY_SENSITIVITY, SCHEDULES, check_schedule, read_ranking
from yoloq.stages.qat.setup import QatSetup
from yoloq.stages.qat.trained import Trained
from yoloq.stages.row import describe, save_records, simulated_int8
from yoloq.stages.run import Inputs, earlier, finished, open_inputs
from yoloq.train.label_loss import loss_for
from yoloq.train.parallel import Processes
from yoloq.train.state import table
from yoloq.train.terms.teacher import load_teacher

WEIGHTS, TABLE, CURVE = "qat.pt", "qat.csv", "qat.png"
OBSERVED = 128  # images on which the ranges of outputs are observed


def run(config: QatConfig) -> StageResult:
    """Write `qat.pt` (weights, policy, ranges), `qat.json`, `qat.csv` and `qat.png`.

    A run that was interrupted goes on from its last whole epoch. Under `torchrun` the first process
    writes.

    Raises:
        UserError: an input cannot be used, an interrupted run had another configuration, or the
            training diverges.
    """
    finisher = partial(finish, began=time.perf_counter())
    return run_together(config, config.folder / "qat.json", open_setup, train, finisher)


def next_step(config: QatConfig, found: StageResult) -> str:
    """Build the better of the two models."""
    return command(config, "engine")


def open_setup(config: QatConfig, group: Processes) -> QatSetup | StageResult:
    """Open and check everything that training starts from; or the result that is there already."""
    inputs = open_inputs(config)
    model = inputs.model
    try:
        check_patterns(config.only, list(conv_inputs(inputs.ops)))
    except PolicyError as error:
        raise PolicyError(f"--only: {error}") from None
    check_policy(inputs, config)
    check_schedule(config, group)
    ranking = read_ranking(inputs) if config.schedule == BY_SENSITIVITY else ()
    teacher = load_teacher(config.teacher, model) if config.teacher else model
    unfused = load_unfused(config)
    train_files(inputs, config, QatSetup.use)
    if config.needs_labels:
        check_labels(inputs, config)
    if config.uses_task:
        loss_for(model.head, inputs.imgsz, group.device)  # one that has none fails before the work
    baseline = earlier(inputs, "baseline", run_baseline, BaselineConfig)
    ptq = calibrated_as(inputs, config)
    read = {
        "weights": model.sha256,
        "data": inputs.dataset.sha256,
        "ptq.pt": ptq.hashes["ptq.pt"],
        "teacher": teacher.sha256,
    }
    capped = config.images_an_epoch(group.device.type)
    more: dict[str, Any] = {
        "files": read,
        "processes": group.world,
        "capped": capped,
        "ranking": ranking,
    }
    key = inputs.key("qat", without=("policy",), **more)
    done = finished(config.folder, "qat", key, config.force)
    if done is not None:
        return done
    calibrated = load_quantized(config.folder / "ptq.pt", inputs.ops)
    check_correctable(config, calibrated.placement)
    check_norms(config, calibrated)
    if not config.teacher:  # its blocks are compared with the student's
        teacher = inputs.as_moved(calibrated.moved).model
    return QatSetup(
        inputs=inputs.without([Path(name) for name in baseline.notes["skipped"]]),
        config=config,
        processes=group,
        teacher=teacher,
        key=key,
        hashes={name: digest[:12] for name, digest in read.items()},
        calibrated=calibrated,
        ptq=ptq,
        unfused=unfused,
        order=SCHEDULES[config.schedule](calibrated.placement, ranking),
    )


def check_labels(inputs: Inputs, config: QatConfig) -> None:
    """Labels that no longer name a class would teach that everything is of the first.

    Raises:
        UserError: they are of one class, and the model tells several apart.
    """
    count = inputs.model.head.nc
    if inputs.dataset.one_class and count > 1:
        raise UserError(
            f"--loss {config.loss}: with --single-cls labels name none of the {count} classes of "
            f"{config.weights}; use --labels teacher, or --loss distill, which need none"
        )


def load_unfused(config: QatConfig) -> nn.Module | None:
    """The network with its batch norm, where that is kept.

    Raises:
        CheckpointError: the checkpoint has none.
    """
    if config.bn == "fold":
        return None
    model = load_model(config.weights, fuse=False)
    if model.fused:
        raise CheckpointError(
            f"--bn freeze: {config.weights} holds no batch norm, it is fused already; "
            "give the checkpoint before fusing, or --bn fold"
        )
    return model.net


def check_norms(config: QatConfig, calibrated: QuantizedModel) -> None:
    """Find batch norm that is kept where its channels have other scales by now.

    Raises:
        PolicyError: so it is.
    """
    if config.bn != "fold" and calibrated.moved:
        raise PolicyError(
            f"--bn {config.bn}: the calibration moved scales, which batch norm does not know of; "
            f"give --bn fold, or redo `{MAKE} ptq` without equalize and smooth"
        )


def finish(setup: QatSetup, trained: Trained, began: float) -> StageResult:
    """Write the best epoch's model, measure what was written, and write the result."""
    config, inputs, rows = setup.config, setup.inputs, trained.rows
    folder, decides = config.folder, FIGURE[config.best]
    best, value, start = trained.best_epoch, trained.value, rows[0][decides]
    quantized = with_outputs(setup, trained.best_model())
    save_quantized(folder / WEIGHTS, quantized, source=inputs.model.sha256)
    write_text(folder / TABLE, table(rows))
    draw_curves(folder / CURVE, rows, best, "QAT", setup.before)
    written = load_quantized(folder / WEIGHTS, inputs.ops)
    row, record = simulated_int8(inputs, written, "INT8 QAT")
    say(describe(row))
    say(verdict(decides, start, best, value))
    seconds = {"train": sum(epoch["seconds"] for epoch in rows[1:])}
    result = inputs.result(
        "qat",
        setup.key,
        [row],
        artifacts={"model": WEIGHTS, "table": TABLE, "curve": CURVE}
        | save_records(inputs, "qat", record),
        seconds=seconds | {"total": time.perf_counter() - began},
        notes={
            "quantized": "ptq",
            "quantized_key": setup.ptq.key,
            "policy": quantized.policy.to_json(),
            "layers": [asdict(item) for item in placed(written)],
            "best": {"epoch": best, decides: value, "ptq": start},
            "phases": [phase.value for phase in trained.phases],
            "epochs": rows,
        },
    )
    result.write(folder / "qat.json")
    trained.remove()
    return result


def verdict(figure: str, start: float, best: int, value: float) -> str:
    """Whether training helped, in one line."""
    if best == 0:
        return (
            f"qat: no epoch has more {figure} than PTQ ({start:.4f}); {WEIGHTS} holds the PTQ model"
        )
    return f"qat: epoch {best} is kept, {figure} {start:.4f} (PTQ) -> {value:.4f}"


def with_outputs(setup: QatSetup, quantized: QuantizedModel) -> QuantizedModel:
    """The model with the ranges of its convolutions' outputs, observed on images of train."""
    inputs, config = setup.inputs, setup.config
    chosen = sample(setup.pictures.files, OBSERVED, config.seed)
    net = quantized.model.net.to(setup.device)

    def batches() -> Iterator[Tensor]:
        for batch in iterate(chosen, inputs.imgsz, config.batch_size, config.workers, []):
            yield to_input(batch.images, setup.device)

    groups = [list(members) for members in quantized.placement.members.values()]
    seen = collect(net, groups, batches(), len(chosen), config.seed)
    net.cpu()
    return replace(quantized, outputs=seen.outputs)
