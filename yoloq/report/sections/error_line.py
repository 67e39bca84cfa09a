"""SNR of each layer's output along the network, and of each layer alone; what is wrong."""

from collections.abc import Sequence
from typing import Any

from yoloq.measure.compare import LOW_COSINE, LOW_SNR, SNR_LIMIT
from yoloq.quant.policy import block_of
from yoloq.report.run_folder import RunFolder
from yoloq.report.section import Figure, Missing, Section
from yoloq.report.svg.lines import Lines, Series
from yoloq.report.svg.marks import Style

HEADER = ("Layer", "SNR dB", "Cosine", "Own SNR dB", "Weight alone", "Input alone")
LOW = {"snr": f"an SNR below {LOW_SNR:g} dB", "cosine": f"a cosine below {LOW_COSINE:g}"}
CAPTION = (
    "Higher is better. The line is the output before the activation with the errors of all layers "
    "before it; hollow marks have this layer alone in int8 and the rest in float."
)


def error_line(run: RunFolder) -> Section | Missing:
    """The chart of a diagnosis, its findings, and the figures of all layers."""
    result = run.result("diagnose")
    if result is None:
        return Missing("layers were not compared with float", run.command("diagnose"))
    notes = result.notes
    layers = notes["layers"]
    words = [
        f"{notes['quantized'].upper()} against float on {notes['images']} images; fidelity "
        f"{notes['fidelity']:.3f}."
    ]
    first = notes["first_below"]
    words += [f"First layer with {LOW[what]}: {layer}." for what, layer in first.items() if layer]
    words += [
        ": ".join(filter(None, (item["layer"], item["kind"], item["text"]))) + f". {_advice(item)}"
        for item in notes["findings"]
    ]
    if not notes["findings"]:
        words.append("Nothing that is wrong with a single layer was found.")
    table = (HEADER, *map(_cells, layers))
    return Section(tuple(words), (Figure(_chart(layers), CAPTION),), table, notes)


def _advice(item: dict[str, Any]) -> str:
    return f"Advice: {item['advice']}." if item["advice"] else ""


def _chart(layers: Sequence[dict[str, Any]]) -> str:
    whole = [(i, _shown(item["error"]["snr"])) for i, item in enumerate(layers)]
    alone = [(i, _shown(item["own"]["both"])) for i, item in enumerate(layers) if item["own"]]
    hovers = [_hover(item) for item in layers]
    names = [block_of(item["layer"]) for item in layers]
    starts = [i for i, name in enumerate(names) if i == 0 or name != names[i - 1]]
    return Lines(
        "SNR of each layer, in forward order",
        "block",
        "SNR, dB",
        [
            Series("with all errors before it", whole, hovers, Style(0)),
            Series("alone", alone, [hovers[i] for i, _ in alone], Style(1, False), joined=False),
        ],
        limits=[(LOW_SNR, f"{LOW_SNR:g} dB: an error of a tenth")],
        ticks=[(i, names[i].removeprefix("model.")) for i in starts],
    ).draw()


def _shown(snr: float) -> float:
    """What is exact has no place on the axis."""
    return snr if abs(snr) < SNR_LIMIT else float("nan")


def _hover(item: dict[str, Any]) -> str:
    error, own = item["error"], item["own"]
    text = f"{item['layer']}\nSNR {error['snr']:.1f} dB, cosine {error['cosine']:.5f}"
    return text + (f"\nalone {own['both']:.1f} dB" if own else "\nin float")


def _cells(item: dict[str, Any]) -> tuple[str, ...]:
    error, own = item["error"], item["own"]
    alone = (f"{own[k]:.1f}" for k in ("both", "weight", "activation")) if own else ("-",) * 3
    return item["layer"], f"{error['snr']:.1f}", f"{error['cosine']:.5f}", *alone
