"""The convolutions of each int8 engine as a strip: int8, 16 bit or float."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from yoloq.quant.policy import block_of
from yoloq.report.recommendation import layer_tables
from yoloq.report.run_folder import RunFolder
from yoloq.report.section import Figure, Missing, Section
from yoloq.report.svg.elements import drawing, rectangle, text, width_of
from yoloq.report.svg.frame import legend
from yoloq.report.words import SIXTEEN, engine_name

HEADER = (
    "Engine",
    "Layer",
    "Type",
    "Scale",
    "Zero-point",
    "SNR dB",
    "Own SNR dB",
    "ms",
    "float ms",
)
CELL, TALL, ACROSS = 15.0, 30.0, 44  # pixels, pixels, cells in a row
KINDS = {"int8": "int8", "16 bit": "half", "float": "float"}  # class of the cell
CAPTION = "A cell a convolution in forward order, the numbers are blocks."


def type_strip(run: RunFolder) -> Section | Missing:
    """A strip an engine, else of the quantized model, and the table of its layers."""
    tables = layer_tables(run) or _planned(run)
    if not tables:
        why = "the stages were run by an earlier version, which did not note the layers"
        return Missing(why, run.command("engine", "--force"))
    errors = _errors(run)
    figures = [
        Figure(_strip(f"{engine_name(engine)} {key}", layers, errors), CAPTION)
        for engine, key, layers in tables
    ]
    rows = [
        (f"{engine_name(engine)} {key}", *_cells(item, errors.get(item["layer"], {})))
        for engine, key, layers in tables
        for item in layers
    ]
    words = tuple(_counts(engine, key, layers) for engine, key, layers in tables)
    data = [{"engine": e, "precision": k, "layers": layers} for e, k, layers in tables]
    return Section(words, tuple(figures), (HEADER, *rows), data)


def _planned(run: RunFolder) -> list[tuple[str, str, list[dict[str, Any]]]]:
    """Where no engine was built: what the policy says, which PyTorch simulates."""
    found = run.result("qat") or run.result("ptq")
    layers = found.notes.get("layers") if found else None
    if not layers:
        return []
    typed = [item | {"type": "int8" if item["int8"] else "fp32"} for item in layers]
    return [("torch", "int8 (simulated)", typed)]


def _errors(run: RunFolder) -> dict[str, dict[str, Any]]:
    """SNR of each layer where a diagnosis has it."""
    result = run.result("diagnose")
    layers = result.notes["layers"] if result else []
    return {
        item["layer"]: {"snr": item["error"]["snr"], "own": (item["own"] or {}).get("both")}
        for item in layers
    }


def kind_of(type_name: str) -> str:
    """int8, 16 bit or float."""
    if type_name == "int8":
        return "int8"
    return "16 bit" if type_name in SIXTEEN else "float"


def _counts(engine: str, key: str, layers: Sequence[Mapping[str, Any]]) -> str:
    kinds = [kind_of(item["type"]) for item in layers]
    counts = ", ".join(f"{kinds.count(kind)} in {kind}" for kind in KINDS if kind in kinds)
    return f"{engine_name(engine)} {key}: {len(layers)} convolutions, {counts}."


def _strip(title: str, layers: Sequence[dict[str, Any]], errors: Mapping[str, Any]) -> str:
    entries = [
        (rectangle((-11.0, -7.0), 22, 14, f"cell {css}"), name) for name, css in KINDS.items()
    ]
    width = 20 + CELL * ACROSS
    left = 24 + width_of(title, 14)
    key, _ = legend(entries, left, 12, width - left)
    parts, row = [text(10, 16, title, "head"), key], 0
    top = 32.0
    for row, start in enumerate(range(0, len(layers), ACROSS)):
        top = 32 + row * (TALL + 26)
        parts += _row(layers[start : start + ACROSS], top, errors)
    return drawing(width, top + TALL + 20, f"placement of {title}", *parts)


def _row(layers: Sequence[dict[str, Any]], top: float, errors: Mapping[str, Any]) -> list[str]:
    parts = []
    for index, item in enumerate(layers):
        css = f"cell {KINDS[kind_of(item['type'])]}"
        corner = (10 + CELL * index, top)
        hover = _hover(item, errors.get(item["layer"], {}))
        parts.append(rectangle(corner, CELL - 1, TALL, css, hover))
    place = 0
    for block, members in groupby(layers, key=lambda item: block_of(item["layer"])):
        count = len(list(members))
        middle = 10 + CELL * (place + count / 2) - 0.5
        parts.append(text(middle, top + TALL + 13, _number(block), "tick small", "middle"))
        place += count
    return parts


def _number(block: str) -> str:
    return block.rsplit(".", 1)[-1]


def _hover(item: Mapping[str, Any], error: Mapping[str, Any]) -> str:
    lines = [f"{item['layer']}: {item['type']}"]
    if item["scale"] is not None:
        lines.append(f"scale {item['scale']:.5g}, zero-point {item['zero_point']}")
    if error:
        own = "" if error["own"] is None else f", alone {error['own']:.1f} dB"
        lines.append(f"SNR {error['snr']:.1f} dB{own}")
    if item.get("ms") is not None:
        other = item.get("float_ms")
        lines.append(f"{item['ms']:.3f} ms" + ("" if other is None else f", {other:.3f} in float"))
    return "\n".join(lines)


def _cells(item: Mapping[str, Any], error: Mapping[str, Any]) -> tuple[str, ...]:
    zero = item["zero_point"]
    return (
        item["layer"],
        item["type"],
        _told(item["scale"], "{:.5g}"),
        "-" if zero is None else str(zero),
        _told(error.get("snr"), "{:.1f}"),
        _told(error.get("own"), "{:.1f}"),
        _told(item.get("ms"), "{:.3f}"),
        _told(item.get("float_ms"), "{:.3f}"),
    )


def _told(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)
