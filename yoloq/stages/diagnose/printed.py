"""What a diagnosis prints: the worst layers, the findings, and trials; 80 columns are enough."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from yoloq.base.own_files import MAKE
from yoloq.measure.compare import LOW_COSINE, LOW_SNR, SNR_LIMIT, LayerError
from yoloq.stages.diagnose.findings import Finding, short

SHOWN = 12  # layers that the table has where none are chosen
COLUMNS = ("Layer", "SNR", "Cosine", "Error", "Own", "Weight", "Input", "Clipped", "Used")
LEGEND = (
    "SNR (dB), cosine and median relative error of the output, on the errors of all layers before "
    "it. Own: SNR with this layer alone in int8; weight and input: with that side alone. Clipped: "
    "share of the input's error beyond its range. Used: share of the range below the 99.9 "
    "percentile of |x|."
)
FIRST = {  # where errors add up, the first layer that is bad says more than the worst
    "finite": "First layer with NaN or Inf: {}",
    "cosine": f"First layer with a cosine below {LOW_COSINE}: {{}}",
    "snr": f"First layer with an SNR below {LOW_SNR:g} dB: {{}}",
}


def layer_rows(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Header and cells of rows as `diagnose.json` has them, in their order."""
    return [list(COLUMNS), *(_cells(row) for row in rows)]


def _cells(row: Mapping[str, Any]) -> list[str]:
    error, own, seen = row["error"], row["own"], row["input"]
    flags = ("*" if error["snr"] < LOW_SNR else "", "*" if error["cosine"] < LOW_COSINE else "")
    cells = [
        short(row["layer"]),
        _decibels(error["snr"]) + flags[0],
        f"{error['cosine']:.4f}" + flags[1],
        f"{error['relative']:.1%}",
    ]
    if own is None:
        return [*cells, "float", "", "", "", ""]
    sides = [_decibels(own[side]) for side in ("both", "weight", "activation")]
    used = f"{seen['range_used']:.0%}" if seen else "-"
    return [*cells, *sides, f"{own['clipped']:.0%}", used]


def _decibels(value: float) -> str:
    return "exact" if value >= SNR_LIMIT else f"{value:.1f}"


def show_layers(console: Console, title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """The table of layers with its legend."""
    header, *cells = layer_rows(rows)
    _show(console, header, cells, title)
    console.print(f"* cosine below {LOW_COSINE}, SNR below {LOW_SNR:g}. {LEGEND}\n")


def show_errors(console: Console, title: str, errors: Sequence[LayerError], count: int) -> None:
    """The layers of least SNR of a comparison of two engines."""
    worst = sorted(errors, key=lambda error: error.snr)[:count]
    cells = [
        [short(e.layer), _decibels(e.snr), f"{e.cosine:.4f}", f"{e.relative:.1%}"] for e in worst
    ]
    _show(console, list(COLUMNS[:4]), cells, title)


def _show(console: Console, header: list[str], cells: list[list[str]], title: str) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for index, name in enumerate(header):
        table.add_column(name, justify="right" if index else "left", overflow="fold")
    for line in cells:
        table.add_row(*line)
    console.print(title, style="bold")  # a title of the table would wrap at its width
    console.print(table)


def show_findings(console: Console, findings: Sequence[Finding]) -> None:
    """Each finding with its advice, causes first."""
    console.print("Findings", style="bold")
    if not findings:
        console.print("nothing stands out: ranges fit, no layer is too coarse\n")
        return
    for number, finding in enumerate(findings, 1):
        layer = f" {finding.layer}" if finding.layer else ""
        console.print(Text(f"{number}.{layer} {finding.kind}: {finding.text}"))
        console.print(Padding(Text(f"-> {finding.advice}"), (0, 0, 0, 3)))
    console.print()


def show_trial(console: Console, trial: Mapping[str, Any]) -> None:
    """What a range set by hand changes."""
    for change in trial["changes"]:
        names = ", ".join(change["layers"])
        console.print(Text(f"{names}: amax {change['before']:.4g} -> {change['after']:.4g}"))
    rows = [
        [f"own SNR of {short(layer)} (dB)", *map(_decibels, pair)]
        for layer, pair in trial["own_snr"].items()
    ]
    last, *pair = trial["last"]
    rows.append([f"SNR of {last} (dB)", *map(_decibels, pair)])
    rows.append(["fidelity", *(f"{value:.3f}" for value in trial["fidelity"])])
    _show(console, ["", "before", "after"], rows, "With --amax")


def show_bisection(console: Console, found: Mapping[str, Any]) -> None:
    """The culprits, or that there are too many to name."""
    if found["culprits"] is None:
        text = f"Bisection stopped after {found['tried']} trials: the loss is spread over many"
        console.print(Text(f"{text} layers; {MAKE} sensitivity ranks them"))
        return
    names = ", ".join(found["culprits"]) or "none"
    console.print(
        Text(
            f"Bisection, {found['tried']} trials. In int8 alone these give a fidelity of "
            f"{found['fidelity']:.3f}, below {found['threshold']:.3f} (all layers: "
            f"{found['whole']:.3f}): {names}"
        )
    )
    floats = " ".join(short(name) for name in found["culprits"])
    if floats:
        console.print(Padding(Text(f'-> {MAKE} ptq ARGS="--keep-float {floats}"'), (0, 0, 0, 3)))
