"""What keeping each layer in float gains, with intervals, and what it costs in time."""

from typing import Any

from yoloq.report.run_folder import RunFolder
from yoloq.report.section import Figure, Missing, Section
from yoloq.report.svg.bars import Bar, horizontal_bars

HEADER = (
    *("Layer", "Fidelity gain", "95% interval", "AP gain", "95% interval", "SNR gain dB"),
    *("int8 ms", "float ms", "Gain per ms"),
)
CAPTION = (
    "The layer that gains most for each millisecond it costs is on top. Pale: the 95% interval "
    "holds 0, so the layer may matter as little as none."
)


def sensitivity_bars(run: RunFolder) -> Section | Missing:
    """The chart and the table of a sweep."""
    result = run.result("sensitivity")
    if result is None:
        return Missing("layers were not ranked", run.command("sensitivity"))
    layers = result.notes["layers"]
    scored = [layer for layer in layers if layer["fidelity_gain"]]
    bars = [_bar(layer) for layer in scored]
    config = result.config
    words = [
        f"Mode {config['mode']}, by {config['grain']}, {result.data['images']} images: fidelity "
        "gained by a layer that is kept in float.",
        f"{len(scored)} of {len(layers)} layers were scored in full, the others by the first pass.",
    ]
    found = result.notes.get("search")
    if found:
        names = ", ".join(found["floats"]) or "nothing more"
        reached = "reaches" if found["reached"] else "does not reach"
        words.append(f"Keeping {names} in float {reached} the target of {found['max_drop']:g}.")
    title = "Fidelity gained by layers in float"
    chart = horizontal_bars(title, bars, "fidelity gained, with 95% interval") if bars else ""
    figures = (Figure(chart, CAPTION),) if bars else ()
    return Section(tuple(words), figures, (HEADER, *map(_cells, layers)), result.notes)


def _bar(layer: dict[str, Any]) -> Bar:
    gain, low, high = layer["fidelity_gain"]
    hover = f"{layer['name']}\nfidelity {gain:+.4f} (95%: {low:+.4f} to {high:+.4f})"
    if layer["map50_95_gain"]:
        hover += f"\nAP50-95 {100 * layer['map50_95_gain'][0]:+.2f} points"
    hover += f"\nSNR of the output {layer['snr_gain']:+.2f} dB"
    if layer["int8_ms"] is not None:
        hover += f"\n{layer['int8_ms']:.3f} ms in int8, {layer['float_ms']:.3f} in float"
    return Bar(layer["name"], gain, (low, high), hover)


def _cells(layer: dict[str, Any]) -> tuple[str, ...]:
    return (
        layer["name"],
        *_gain(layer["fidelity_gain"], 1, "{:+.4f}"),
        *_gain(layer["map50_95_gain"], 100, "{:+.2f}"),
        f"{layer['snr_gain']:+.2f}",
        _number(layer["int8_ms"], "{:.3f}"),
        _number(layer["float_ms"], "{:.3f}"),
        _number(layer["worth"], "{:+.3f}"),
    )


def _gain(triple: list[float] | None, factor: float, form: str) -> tuple[str, str]:
    if not triple:
        return "-", "-"
    gain, low, high = (form.format(factor * value) for value in triple)
    return gain, f"{low} to {high}"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)
