"""Diagnosis: what quantization does to each layer, what is wrong with the bad ones, and advice."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from yoloq.base.errors import PolicyError, RunError
from yoloq.base.files import write_text
from yoloq.base.own_files import MAKE
from yoloq.base.result import StageResult, read_result
from yoloq.base.say import progress, result_console, say, warn
from yoloq.data.loader import iterate
from yoloq.measure.compare import LayerError, first_below
from yoloq.models.to_input import to_input
from yoloq.quant.amax_by_hand import resolve_amax
from yoloq.quant.amax_flag import parse_amax
from yoloq.quant.policy import Policy, Rule, check_patterns, matches
from yoloq.quant.quantized import load_quantized
from yoloq.quant.statistics import Statistics
from yoloq.quant.trace import conv_inputs
from yoloq.report.plots import draw_errors
from yoloq.stages.baseline import BaselineConfig
from yoloq.stages.baseline.stage import run as run_baseline
from yoloq.stages.diagnose import DiagnoseConfig, pictures, printed
from yoloq.stages.diagnose.against import NamedEngine, read_engine
from yoloq.stages.diagnose.figures import Figures
from yoloq.stages.diagnose.findings import Finding, find
from yoloq.stages.diagnose.subject import (
    Subject,
    bisect,
    engines_apart,
    figures_of,
    open_subject,
    try_amax,
)
from yoloq.stages.end import command
from yoloq.stages.ptq import PtqConfig
from yoloq.stages.ptq.stage import calibration_images, config_of, statistics
from yoloq.stages.ptq.stage import run as run_ptq
from yoloq.stages.run import Inputs, earlier, finished, open_inputs

FEW = 8  # images; below, a range that fits others looks wrong: 1 of 1 to 4 had a false finding at 1


def run(config: DiagnoseConfig) -> StageResult:
    """Print tables and findings; write `diagnose.json` and the pictures in `diagnose/`.

    Raises:
        UserError: an input or engine cannot be used, or a name matches no layer.
    """
    began = time.perf_counter()
    against = [read_engine(text) for text in config.against]
    inputs = open_inputs(config)
    check_names(config, inputs)
    baseline = earlier(inputs, "baseline", run_baseline, BaselineConfig)
    ptq = earlier(inputs, "ptq", run_ptq, PtqConfig)
    made = quantized_result(config, ptq)
    key = inputs.key("diagnose", made=made.key)
    done = finished(config.folder, "diagnose", key, config.force)
    if done is not None:
        show(config, done.notes)
        return done
    inputs = inputs.without([Path(name) for name in baseline.notes["skipped"]])
    quantized = load_quantized(config.folder / f"{made.stage}.pt", inputs.ops)
    inputs = inputs.as_moved(quantized.moved)
    resolve_amax(quantized.placement, parse_amax(config.amax))
    subject = open_subject(inputs, quantized, config.images, made.stage == "qat")
    if subject.images < FEW:
        warn(f"{subject.images} images say little of the layers' ranges: --images {FEW} or more")
    notes, artifacts = diagnosed(subject, config, config_of(config, ptq), against)
    show(config, notes)
    seconds = {"total": time.perf_counter() - began}
    notes |= {"quantized": made.stage, "quantized_key": made.key}
    result = inputs.result("diagnose", key, [], artifacts, seconds=seconds, notes=notes)
    result.write(config.folder / "diagnose.json")
    say(f"written: {config.folder / 'diagnose.json'}, {len(artifacts)} files in diagnose/")
    return result


def next_step(config: DiagnoseConfig, found: StageResult) -> str:
    """Each finding names its own command; this ranks the layers."""
    return command(config, "sensitivity")


def check_names(config: DiagnoseConfig, inputs: Inputs) -> None:
    """Find slips in layer names before anything runs.

    Raises:
        PolicyError: a name matches no convolution; names the flag and lists near names.
    """
    names = list(conv_inputs(inputs.ops))
    for flag, patterns in (("--layers", config.layers), ("--amax", tuple(parse_amax(config.amax)))):
        try:
            check_patterns(patterns, names)
        except PolicyError as error:
            raise PolicyError(f"{flag}: {error}") from None


def quantized_result(config: DiagnoseConfig, ptq: StageResult) -> StageResult:
    """The stage whose model is diagnosed.

    Raises:
        RunError: `--of qat`, and the folder has no QAT result of this PTQ model.
    """
    qat = read_result(config.folder / "qat.json") if config.of != "ptq" else None
    if qat and qat.notes.get("quantized_key") == ptq.key and not qat.damaged(config.folder):
        return qat
    if config.of == "qat":
        raise RunError(f"{config.folder}: holds no QAT result of its PTQ model; run `{MAKE} qat`")
    return ptq


def diagnosed(
    subject: Subject, config: DiagnoseConfig, ptq: PtqConfig, against: Sequence[NamedEngine]
) -> tuple[dict[str, Any], dict[str, str]]:
    """All that is found, as plain data, and the names of the files that were written."""
    inputs, placement = subject.inputs, subject.quantized.placement
    chosen = calibration_images(inputs, ptq)
    calibrated = statistics(inputs, ptq, subject.groups, chosen).inputs
    figures, seen = figures_of(subject, calibrated)
    value = subject.fidelity("detect, simulated int8")
    findings = find(figures)
    notes: dict[str, Any] = {
        "images": subject.images,
        "fidelity": value,
        "first_below": first_below(figures.errors),
        "findings": [asdict(finding) for finding in findings],
        "layers": layer_notes(subject, figures),
        "blocks": [asdict(e) for e in figures.errors if e.layer not in placement.layers],
        "calibration": figures.calibration and asdict(figures.calibration),
    }
    drawn = drawn_layers(subject, config, figures, calibrated | seen | calibrated)
    notes["histograms"] = pictures.histogram_notes(subject.net, placement, drawn, ptq.calibrator)
    artifacts = draw(subject, config, ptq, figures, drawn, chosen)
    artifacts |= write_policy(subject, config, ptq, findings)
    if config.amax:
        notes["trial"] = try_amax(subject, parse_amax(config.amax), figures, value)
    if config.bisect:
        notes["bisect"] = bisect(subject, value)
    if against:
        errors = engines_apart(subject, against[0], against[1], config.layers)
        notes["against"] = {"engines": config.against, "errors": [asdict(e) for e in errors]}
        artifacts["against"] = f"{pictures.FOLDER}/against.png"
        draw_errors(config.folder / artifacts["against"], errors)
    return notes, artifacts


def layer_notes(subject: Subject, figures: Figures) -> list[dict[str, Any]]:
    """Figures of each convolution, in forward order."""
    tensor = {name: group[0] for group in subject.groups for name in group}
    notes = []
    for error in figures.errors:
        if (name := error.layer) not in tensor:
            continue
        parts = {
            "error": error,
            "own": figures.local.get(name),
            "weight": figures.weights[name],
            "input": figures.activations.get(tensor[name]),
            "range": figures.ranges.get(tensor[name]) if name in figures.local else None,
        }
        notes.append({"layer": name} | {k: part and asdict(part) for k, part in parts.items()})
    return notes


def worst(notes: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Quantized layers, those with the most error of their own first."""
    own = [row for row in notes if row["own"] is not None]
    return sorted(own, key=lambda row: (row["own"]["both"], row["layer"]))


def drawn_layers(
    subject: Subject,
    config: DiagnoseConfig,
    figures: Figures,
    tensors: Mapping[str, Statistics],
) -> dict[str, Statistics]:
    """The worst layers with different inputs, or the chosen ones, and statistics of the inputs."""
    first = {name: group[0] for group in subject.groups for name in group}
    rows = [row for row in worst(layer_notes(subject, figures)) if row["range"]]
    rows = [row for row in rows if chosen_by(config, row["layer"])]
    layers: dict[str, str] = {}  # tensor -> the worst layer that reads it
    for row in rows:
        layers.setdefault(first[row["layer"]], row["layer"])
    return {layer: tensors[name] for name, layer in list(layers.items())[: config.plots]}


def draw(
    subject: Subject,
    config: DiagnoseConfig,
    ptq: PtqConfig,
    figures: Figures,
    drawn: Mapping[str, Statistics],
    calibration: tuple[Path, ...],
) -> dict[str, str]:
    """Pictures of the layers that `drawn_layers` chose."""
    folder = config.folder / pictures.FOLDER
    for old in folder.glob("*.*"):  # of other layers
        old.unlink()
    if not config.plots:
        return {}
    names = pictures.draw_pictures(
        config.folder,
        subject.net,
        subject.quantized.placement,
        figures.errors,
        drawn,
        ptq.calibrator,
    )
    names += pictures.draw_curves(
        config.folder,
        subject.reference,
        subject.groups,
        subject.net,
        list(drawn),
        lambda: calibration_batches(subject, ptq, calibration),
        len(calibration),
        ptq.calibrator,
        ptq.seed,
    )
    return {Path(name).stem: name for name in names}


def chosen_by(config: DiagnoseConfig, layer: str) -> bool:
    """Whether `--layers` is empty or names the layer."""
    return not config.layers or any(matches(layer, pattern) for pattern in config.layers)


def calibration_batches(
    subject: Subject, ptq: PtqConfig, images: tuple[Path, ...]
) -> Iterator[Tensor]:
    """The calibration images as the network takes them."""
    imgsz = subject.inputs.imgsz
    with progress("amax by number of images", len(images)) as advance:
        for batch in iterate(images, imgsz, ptq.batch_size, ptq.workers):
            yield to_input(batch.images, subject.device)
            advance(len(batch.images))


def write_policy(
    subject: Subject, config: DiagnoseConfig, ptq: PtqConfig, findings: Sequence[Finding]
) -> dict[str, str]:
    """The policy with other calibrators for layers whose ranges are off; none: no file."""
    layers = subject.quantized.placement.layers
    rules = [
        Rule(item.layer, layers[item.layer].weight, layers[item.layer].activation, item.calibrator)
        for item in findings
        if item.calibrator and item.calibrator != (layers[item.layer].calibrator or ptq.calibrator)
    ]
    if not rules:
        return {}
    policy: Policy = subject.quantized.policy
    policy = replace(policy, rules=(*policy.rules, *rules))
    name = f"{pictures.FOLDER}/policy.json"
    write_text(config.folder / name, json.dumps(policy.to_json(), indent=1) + "\n")
    say(
        f"{config.folder / name} has other calibrators for {len(rules)} layers: "
        f"{MAKE} ptq ARGS='--policy {config.folder / name}'"
    )
    return {"policy": name}


def show(config: DiagnoseConfig, notes: Mapping[str, Any]) -> None:
    """Print a diagnosis, new or read, on stdout."""
    console = result_console(highlight=False)
    rows = [row for row in notes["layers"] if chosen_by(config, row["layer"])]
    title = "Layers, in forward order"
    if not config.layers:
        rows = worst(rows)[: printed.SHOWN]
        title = f"The {len(rows)} layers with the most error of their own"
    printed.show_layers(console, title, rows)
    for what, layer in notes["first_below"].items():
        if layer:
            console.print(printed.FIRST[what].format(layer))
    images, value = notes["images"], notes["fidelity"]
    console.print(f"Fidelity on these {images} images: {value:.3f}\n")
    printed.show_findings(console, [Finding(**item) for item in notes["findings"]])
    if "trial" in notes:
        printed.show_trial(console, notes["trial"])
    if "bisect" in notes:
        printed.show_bisection(console, notes["bisect"])
    if "against" in notes:
        errors = [LayerError(**item) for item in notes["against"]["errors"]]
        title = "{} against {}".format(*notes["against"]["engines"])
        printed.show_errors(console, title, errors, printed.SHOWN)
