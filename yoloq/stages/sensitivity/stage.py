"""Sensitivity: switch layer after layer between int8 and float and see what each costs."""

import json
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from yoloq.base.errors import PolicyError
from yoloq.base.files import write_text
from yoloq.base.journal import Journal
from yoloq.base.own_files import MAKE
from yoloq.base.result import StageResult
from yoloq.base.say import result_console, say
from yoloq.quant.policy import Policy, Rule, block_of, conv_layers, matches, resolve
from yoloq.quant.quantized import QuantizedModel, load_quantized
from yoloq.quant.spec import ACTIVATION, WEIGHT
from yoloq.report.plots import draw_bars
from yoloq.report.tables import markdown
from yoloq.stages.baseline import BaselineConfig
from yoloq.stages.baseline.stage import run as run_baseline
from yoloq.stages.end import command
from yoloq.stages.ptq import PtqConfig
from yoloq.stages.ptq.stage import calibrated, calibration_images, config_of
from yoloq.stages.ptq.stage import run as run_ptq
from yoloq.stages.run import Inputs, earlier, finished, open_inputs
from yoloq.stages.sensitivity import SensitivityConfig
from yoloq.stages.sensitivity.candidates import Candidate, find_candidates
from yoloq.stages.sensitivity.outcome import (
    Layer,
    agreement,
    rendered,
    table,
    with_floats,
)
from yoloq.stages.sensitivity.passes import BASE
from yoloq.stages.sensitivity.run_sweep import engine_costs, open_journal, sweep
from yoloq.stages.sensitivity.scores import FIGURES
from yoloq.stages.sensitivity.sweep_lines import Scored
from yoloq.stages.sensitivity.target import search

PROPOSED = (1, 2, 4)  # layers in float in the policies that are proposed without a target
POLICY = "policy.json"


def run(config: SensitivityConfig) -> StageResult:
    """Write the journal, `sensitivity.json`, its table and chart, and policies.

    A sweep that was interrupted goes on after its last finished layer.

    Raises:
        UserError: an input cannot be used, a pattern matches no layer, or the journal is of
            something else.
    """
    began = time.perf_counter()
    inputs = open_inputs(config)
    ptq = earlier(inputs, "ptq", run_ptq, PtqConfig, engine=config.engine)
    baseline = earlier(inputs, "baseline", run_baseline, BaselineConfig)
    key = inputs.key("sensitivity", timed=True, ptq=ptq.key)
    done = finished(config.folder, "sensitivity", key, config.force)
    if done is not None:
        show([Layer(**item) for item in done.notes["layers"]])
        return done
    inputs = inputs.without([Path(name) for name in baseline.notes["skipped"]])
    inputs = replace(inputs, images=inputs.images[: config.images or None])
    quantized = swept_model(inputs, config, ptq)
    inputs = inputs.as_moved(quantized.moved)
    candidates = candidates_of(quantized, config)
    journal = open_journal(inputs, config, quantized)

    costs = engine_costs(inputs, config, quantized, journal)
    sweep(inputs, config, quantized, candidates, journal)
    layers = table(candidates, journal, config.mode, costs)
    show(layers)
    found = search(inputs, config, quantized, candidates, layers, journal)
    policies = write_policies(config, quantized.policy, layers, found)
    result = inputs.result(
        "sensitivity",
        key,
        [],
        artifacts=policies | write_table(config, layers) | {"journal": journal.file.name},
        seconds={"total": time.perf_counter() - began},
        notes={
            "base": base_figures(journal),
            "layers": [asdict(layer) for layer in layers],
            "rank_correlation": agreement(layers),
            "search": found,
            "policy": quantized.policy.to_json(),
        },
    )
    result.write(config.folder / "sensitivity.json")
    return result


def next_step(config: SensitivityConfig, found: StageResult) -> str:
    """Use the policy, or train where none reached the target."""
    if policy := found.artifacts.get("policy"):
        return command(config, "ptq", f"--policy {config.folder / policy}")
    return command(config, "qat")


def swept_model(inputs: Inputs, config: SensitivityConfig, ptq: StageResult) -> QuantizedModel:
    """The calibrated model: that of PTQ, or calibrated again with the included layers.

    Raises:
        PolicyError: an included pattern matches no layer; near names are listed.
    """
    if not config.include:
        return load_quantized(config.folder / "ptq.pt", inputs.ops)
    policy = Policy.from_json(ptq.notes["policy"])
    usual = next(
        (r for r in policy.rules if r.activation and r.weight), Rule("", WEIGHT, ACTIVATION)
    )
    rules = tuple(replace(usual, pattern=pattern) for pattern in config.include)
    policy = replace(policy, rules=(*policy.rules, *rules))
    try:
        placement = resolve(policy, inputs.ops)
    except PolicyError as error:
        raise PolicyError(f"--include: {error}") from None
    made = config_of(config, ptq)
    quantized, _, _ = calibrated(inputs, made, policy, placement, calibration_images(inputs, made))
    return quantized


def candidates_of(quantized: QuantizedModel, config: SensitivityConfig) -> list[Candidate]:
    """What is swept: the quantized layers, but for the first ones that no flag names.

    Raises:
        PolicyError: a pattern matches no quantized layer (near names are listed), or none is left.
    """
    try:
        found = find_candidates(quantized.placement, config.grain, config.layers)
    except PolicyError as error:
        hint = " (layers in float are brought in by --include)"
        raise PolicyError(f"--layers: {error}{hint}") from None
    first = () if config.layers else conv_layers(quantized.model.net)[: config.skip_first]
    skipped = [
        candidate
        for candidate in found
        if block_of(candidate.name) in first
        and not any(matches(name, p) for name in candidate.layers for p in config.include)
    ]
    if len(skipped) == len(found):
        raise PolicyError(f"--skip-first {config.skip_first}: leaves nothing to sweep")
    if skipped:
        names = ", ".join(candidate.name for candidate in skipped)
        say(f"not swept, but in int8: {names} (--skip-first 0 sweeps them)")
    return [candidate for candidate in found if candidate not in skipped]


def base_figures(journal: Journal) -> dict[str, float]:
    """Accuracy of the network without any switch."""
    line = journal.line(Scored, BASE)
    figures = {name: getattr(line, name)[0] for name in FIGURES}
    return figures | {"snr": line.snr, "cosine": line.cosine}


def write_policies(
    config: SensitivityConfig, policy: Policy, layers: list[Layer], found: dict[str, Any] | None
) -> dict[str, str]:
    """The policy that was searched for, and proposals: names of the files.

    `policy.json` is the one that reached the target, or without a target the first proposal; there
    is none where the target was not reached.
    """
    order = [layer.name for layer in layers if layer.fidelity_gain]
    files = {f"policy-top{count}": order[:count] for count in PROPOSED if count <= len(order)}
    if found is None:
        files["policy"] = order[:1]
    elif found["reached"]:
        files["policy"] = found["floats"]
    (config.folder / POLICY).unlink(missing_ok=True)  # that of another sweep
    for name, floats in files.items():
        text = json.dumps(with_floats(policy, floats).to_json(), indent=1) + "\n"
        write_text(config.folder / f"{name}.json", text)
    if "policy" in files:
        where = config.folder / POLICY
        chosen = ", ".join(files["policy"]) or "nothing more"
        say(f"{where} keeps {chosen} in float: {MAKE} ptq ARGS='--policy {where}'")
    return {name: f"{name}.json" for name in files}


def write_table(config: SensitivityConfig, layers: list[Layer]) -> dict[str, str]:
    """The table as text and as a chart: names of the files."""
    write_text(config.folder / "sensitivity.md", markdown(rendered(layers)) + "\n")
    scored = [layer for layer in layers if layer.fidelity_gain]
    gains = [layer.fidelity_gain for layer in scored if layer.fidelity_gain]
    draw_bars(
        config.folder / "sensitivity.png",
        f"{config.mode}, by {config.grain}: fidelity gained by float layers, most a ms first",
        [layer.name for layer in scored],
        [delta for delta, _, _ in gains],
        [(low, high) for _, low, high in gains],
        "fidelity, with 95% interval",
    )
    return {"table": "sensitivity.md", "chart": "sensitivity.png"}


def show(layers: list[Layer]) -> None:
    """Print the ranked table on stdout."""
    from rich import box
    from rich.table import Table

    console = result_console()
    rows: list[list[str]] = rendered(layers, intervals=False)
    printed = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for title in rows[0]:
        printed.add_column(title, justify="left" if title == "Layer" else "right")
    for cells in rows[1:]:
        printed.add_row(*cells)
    console.print(printed)
