"""The verdict in words: which engine to ship and why, or that int8 is not worth it here."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from yoloq.base.own_files import MAKE
from yoloq.base.result import Row, StageResult
from yoloq.report.run_folder import RunFolder
from yoloq.report.tables import batch
from yoloq.report.words import in_float, interval, points, row_name, times

LOSS = 0.01  # of AP50-95: an int8 model that loses more is not called worth it
FASTER = 1.05  # two timings on a busy machine are told apart from here on
COSTLY = 3  # layers that a verdict names
MEND = f"{MAKE} sensitivity"  # the stage that says which layers int8 hurts


@dataclass(frozen=True)
class Verdict:
    """What to ship.

    Attributes:
        words: the headline.
        reasons: sentences that follow it.
        ship: engine and precision; None where nothing was built.
        worth: whether that is int8; None where it cannot be said.
    """

    words: str
    reasons: tuple[str, ...] = ()
    ship: tuple[str, str] | None = None
    worth: bool | None = None


def verdict(run: RunFolder) -> Verdict:
    """Judge the engines of a run by what they lose and how long they take."""
    timed = timed_rows(run)
    floats = [row for row in timed if not is_int8(row)]
    int8 = [row for row in timed if is_int8(row)]
    if not int8 or not floats:
        return _unknown(run, timed)
    fastest = min(floats, key=milliseconds)
    good = [row for row in int8 if row.delta >= -LOSS]
    if not good:
        return _too_lossy(run, int8, fastest)
    best = min(good, key=milliseconds)
    if milliseconds(best) * FASTER > milliseconds(fastest):
        return _too_slow(run, best, fastest)
    reasons = (_against_16_bit(best, floats), _passed_over(best, int8))
    return Verdict(
        f"Ship {described(run, best)}",
        tuple(filter(None, reasons)),
        (best.engine, best.precision),
        True,
    )


def is_int8(row: Row) -> bool:
    """Whether a row is of an int8 model, however calibrated."""
    return row.precision.startswith("int8")


def milliseconds(row: Row) -> float:
    """Median latency of a row that was timed."""
    assert row.latency_ms is not None
    return float(row.latency_ms["p50"])


def timed_rows(run: RunFolder) -> list[Row]:
    """Rows of engines that claim a speed, at the smallest number of images that all were timed at.

    The baseline, which PyTorch runs layer by layer, is none to ship.
    """
    rows = [row for result in run.engines for row in result.rows if row.latency_ms]
    rows = [row for row in rows if not row.simulated]
    least = min(map(batch, rows), default=0)
    return [row for row in rows if batch(row) == least]


def described(run: RunFolder, row: Row) -> str:
    """A row's figures in a sentence, against FP32 of the same engine."""
    text = f"{row_name(row)}: {points(row.delta)} ({interval(row.delta_ci95)})"
    base = next(
        (r for r in timed_rows(run) if (r.engine, r.precision) == (row.engine, "fp32")), None
    )
    if base is not None and base is not row:
        text += f", {times(milliseconds(base) / milliseconds(row), 'faster', 'slower')}"
        if base.size_bytes and row.size_bytes:
            text += f", {times(base.size_bytes / row.size_bytes, 'smaller', 'larger')}"
    text += f" ({milliseconds(row):.2f} ms)"
    if is_int8(row):
        text += f"; {in_float(row.float_layers, every_layer(run))}"
    return text


def every_layer(run: RunFolder) -> list[str]:
    """All convolutions in forward order, as far as a stage noted them."""
    for stage in ("ptq", "diagnose", "qat"):
        found = run.result(stage)
        if found is not None and found.notes.get("layers"):
            return [item["layer"] for item in found.notes["layers"]]
    return []


def _against_16_bit(best: Row, floats: Sequence[Row]) -> str:
    sixteen = [row for row in floats if row.precision != "fp32"]
    if not sixteen:
        return ""
    other = min(sixteen, key=milliseconds)
    ratio = milliseconds(other) / milliseconds(best)
    return (
        f"Against the fastest 16-bit engine, {row_name(other)} ({milliseconds(other):.2f} ms): "
        f"{times(ratio, 'faster', 'slower')}."
    )


def _passed_over(best: Row, int8: Sequence[Row]) -> str:
    """Why the fastest int8 engine is not the one, where it loses too much."""
    faster = [row for row in int8 if milliseconds(row) < milliseconds(best)]
    if not faster:
        return ""
    named = ", ".join(f"{row_name(row)} ({100 * row.delta:+.1f})" for row in faster)
    return f"Faster, but more than {100 * LOSS:g} point below FP32: {named}."


def _unknown(run: RunFolder, timed: Sequence[Row]) -> Verdict:
    """No int8 engine and float engine to be compared."""
    simulated = [row for row, _ in run.pairs if is_int8(row) and row.measured]
    build = f"Build and time it: `{run.command('engine')}`."
    if timed and not simulated:
        return Verdict("No int8 engine was built.", (build,))
    if not simulated:
        words = "Only FP32 was measured: nothing is quantized yet."
        return Verdict(words, (f"Calibrate it: `{run.command('ptq')}`.",))
    row = max(simulated, key=lambda row: row.fidelity)
    words = (
        f"No int8 engine was timed beside a float one yet. {row_name(row)}: {points(row.delta)} "
        f"({interval(row.delta_ci95)}), fidelity {row.fidelity:.3f}; "
        f"{in_float(row.float_layers, every_layer(run))}"
    )
    return Verdict(words, (build,))


def _too_lossy(run: RunFolder, int8: Sequence[Row], fastest: Row) -> Verdict:
    best = max(int8, key=lambda row: row.delta)
    lead = "Int8 is not worth it here as it is: the best, "
    words = (
        f"{lead}{described(run, best)}. Ship {row_name(fastest)} ({milliseconds(fastest):.2f} ms)"
    )
    train = f"Training mends what calibration cannot: `{run.command('qat')}`."
    reasons = (_lossy_layers(run), train)
    return Verdict(words, reasons, (fastest.engine, fastest.precision), False)


def _too_slow(run: RunFolder, best: Row, fastest: Row) -> Verdict:
    words = (
        f"Int8 is not worth it here: {row_name(best)} takes {milliseconds(best):.2f} ms, "
        f"{row_name(fastest)} {milliseconds(fastest):.2f} ms. Ship {row_name(fastest)}"
    )
    search = f"Another placement may be faster: `{run.command('search')}`."
    reasons = tuple(filter(None, (_slow_layers(run, best), search)))
    return Verdict(words, reasons, (fastest.engine, fastest.precision), False)


def _lossy_layers(run: RunFolder) -> str:
    """The layers that cost accuracy: of the sweep, else those with the most error of their own."""
    swept, diagnosed = run.result("sensitivity"), run.result("diagnose")
    if swept is not None:
        layers = [item for item in swept.notes["layers"] if item["fidelity_gain"]]
        layers.sort(key=lambda item: -item["fidelity_gain"][0])
        named = [f"{x['name']} ({x['fidelity_gain'][0]:+.4f})" for x in layers[:COSTLY]]
        return f"Layers whose return to float gains most fidelity: {', '.join(named)}."
    if diagnosed is not None:
        own = [item for item in diagnosed.notes["layers"] if item["own"]]
        own.sort(key=lambda item: item["own"]["both"])
        named = [f"{item['layer']} ({item['own']['both']:.1f} dB)" for item in own[:COSTLY]]
        return f"Layers with the most error of their own: {', '.join(named)}."
    return f"Which layers cost it: `{run.command('sensitivity')}`."


def _slow_layers(run: RunFolder, row: Row) -> str:
    """The layers that take longer in int8 than in the engine's other type."""
    found = next(
        (layers for layers in layer_tables(run) if layers[:2] == (row.engine, row.precision)), None
    )
    lost = (
        [(x["ms"] - x["float_ms"], x["layer"]) for x in found[2] if x["float_ms"]] if found else []
    )
    worst = [pair for pair in sorted(lost, reverse=True)[:COSTLY] if pair[0] > 0]
    if not worst:
        return ""
    return "Slower in int8: " + ", ".join(f"{name} ({ms:+.3f} ms)" for ms, name in worst) + "."


def layer_tables(run: RunFolder) -> list[tuple[str, str, list[dict[str, Any]]]]:
    """(engine, precision, its convolutions) as the engine stage noted them."""
    return [
        (_engine(result), key, notes["layers"])
        for result in run.engines
        for key, notes in result.notes.get("layers", {}).items()
    ]


def _engine(result: StageResult) -> str:
    return result.stage.partition("-")[2]
