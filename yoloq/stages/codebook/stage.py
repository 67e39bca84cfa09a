"""Weights by codebook: fit, write the small file, measure what is read back from it."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from yoloq.base.machine import torch_device
from yoloq.base.result import Row, StageResult
from yoloq.base.say import say
from yoloq.engines.torch import TorchPredictor
from yoloq.geometry.detections import Detections
from yoloq.quant.codebook import BookSpec
from yoloq.quant.codebook.coded_net import code_network
from yoloq.quant.codebook.codes_file import load_codes, save_codes
from yoloq.quant.policy import block_of, conv_layers
from yoloq.quant.refine.apply import batches_of
from yoloq.quant.trace import conv_inputs
from yoloq.stages.baseline import BaselineConfig
from yoloq.stages.baseline.stage import run as run_baseline
from yoloq.stages.codebook import CodebookConfig
from yoloq.stages.end import command
from yoloq.stages.ptq import PtqConfig
from yoloq.stages.ptq.stage import calibration_images
from yoloq.stages.ptq.stage import run as run_ptq
from yoloq.stages.row import BASELINE, accuracy, describe, find
from yoloq.stages.run import Inputs, earlier, finished, open_inputs

FILE = "codebook.npz"


def run(config: CodebookConfig) -> StageResult:
    """Write `codebook.npz` and `codebook.json`.

    Raises:
        UserError: an input cannot be used, or none of the calibration images can be read.
    """
    began = time.perf_counter()
    inputs = open_inputs(config)
    images = fitted_to(inputs, config)
    baseline = earlier(inputs, "baseline", run_baseline, BaselineConfig)
    int8 = earlier(inputs, "ptq", run_ptq, PtqConfig)
    key = inputs.key("codebook", baseline=baseline.timeless_key, int8=int8.timeless_key)
    done = finished(config.folder, "codebook", key, config.force)
    if done is not None:
        return done
    inputs = inputs.without([Path(name) for name in baseline.notes["skipped"]])
    fitting = write(inputs, config, images)
    row = measured(inputs, config)
    say(describe(row))
    say(f"codebook: {told(row, inputs)}")
    result = inputs.result(
        "codebook",
        key,
        [float_row(baseline), int8_row(inputs, int8), row],
        artifacts={"model": FILE},
        seconds={"fit": fitting, "total": time.perf_counter() - began},
    )
    result.write(config.folder / "codebook.json")
    return result


def next_step(config: CodebookConfig, found: StageResult) -> str:
    """What gains time."""
    return command(config, "engine")


def fitted_to(inputs: Inputs, config: CodebookConfig) -> tuple[Path, ...]:
    """Calibration images, the first that `make ptq` would draw; none with `--images 0`."""
    if not config.images:
        return ()
    return calibration_images(inputs, PtqConfig(images=config.images, seed=config.seed))


def write(inputs: Inputs, config: CodebookConfig, images: tuple[Path, ...]) -> float:
    """Fit and write the file; the seconds that the fit took."""
    began, device = time.perf_counter(), torch_device(config.device)
    inputs.model.net.to(device)
    batches: Iterator[Tensor] = iter(())
    if images:
        batches = batches_of(images, inputs.imgsz, device, config.workers)
    coded, codes = code_network(inputs.model, specs_of(inputs, config), batches, config.seed)
    fitting = time.perf_counter() - began
    save_codes(config.folder / FILE, replace(coded, imgsz=inputs.imgsz), codes)
    return fitting


def specs_of(inputs: Inputs, config: CodebookConfig) -> dict[str, BookSpec]:
    """How each convolution is coded, in the order they run."""
    layers = conv_layers(inputs.model.net)
    usual, edge = BookSpec(config.bits, config.per, config.dim), BookSpec(config.edge_bits, "layer")
    edges = {layers[0], layers[-1]}
    return {name: edge if block_of(name) in edges else usual for name in conv_inputs(inputs.ops)}


def measured(inputs: Inputs, config: CodebookConfig) -> Row:
    """The row of what stands in the file."""
    device, file = torch_device(config.device), config.folder / FILE
    predictor = TorchPredictor(load_codes(file).net, inputs.info, device, "fp32")
    found = find(inputs, predictor, title="detect, codebook")
    entry = f", {config.dim} an entry" if config.dim > 1 else ""
    return Row(
        name=f"{config.bits} bits a weight{entry}, per {config.per}",
        precision="codebook",
        engine="torch",
        size_bytes=file.stat().st_size,
        **accuracy(inputs, found, Detections.load(config.folder / BASELINE)),
    )


def float_row(baseline: StageResult) -> Row:
    """FP32 without its times: there is nothing here to hold them against."""
    return replace(baseline.rows[0], latency_ms=None, path_ms=None, throughput=None, fps=None)


def int8_row(inputs: Inputs, int8: StageResult) -> Row:
    """Int8, with the bytes of its weights: one of each, four of each channel's scale."""
    size, net = float_bytes(inputs), inputs.model.net
    for layer in int8.notes["layers"]:
        if layer["int8"]:
            weight = net.get_submodule(layer["layer"]).weight
            assert isinstance(weight, Tensor)
            size += 4 * len(weight) - 3 * weight.numel()
    return replace(int8.rows[0], size_bytes=size)


def float_bytes(inputs: Inputs) -> int:
    """Of all weights and biases."""
    return 4 * sum(parameter.numel() for parameter in inputs.model.net.parameters())


def told(row: Row, inputs: Inputs) -> str:
    """What the file gains, and what it does not."""
    size, full = row.size_bytes or 0, float_bytes(inputs)
    return (
        f"{inputs.config.folder / FILE} has {size / 1e6:.2f} MB, {size / full:.3f} of FP32's; it "
        "gains size, not time: the weights are floats again before anything runs"
    )
