"""Where the time goes: OpenVINO's own profile, by kind of node and by layer, INT8 and 16 bits."""

from typing import Any

from record import Column, Figure, Found, Table
from subject import Subject, main

from yoloq.base.machine import affinity
from yoloq.engines import get_engine
from yoloq.measure.layer_times import ROUNDS, LayerTimes, int8_costs, measure_layer_times

RUNS = 100
MS = "{:.3f}"
HOW = (
    "Default PTQ. A round compiles an engine, runs it {each} times with OpenVINO's counters on and "
    "{each} times without; {rounds} rounds of each precision in turn, medians over the rounds, on "
    "{threads} threads. A layer has its convolution with the activation, the quantization of its "
    "input where that is done apart, and the reordering of a result; other is what a block does "
    "for no one convolution (Concat, Add, MaxPool, Resize). Lost is what keeping the layer in "
    "float costs, as far as each layer's time is its own."
)


def measure(subject: Subject) -> Found:
    """The profile of the default engine, and how much of the latency it accounts for."""
    threads, runs = len(affinity()), 10 if subject.limit else RUNS
    subject.folder.mkdir(parents=True, exist_ok=True)
    source = subject.quantized()
    times = measure_layer_times(
        get_engine("openvino"), source, subject.folder, "cpu", threads, runs
    )
    assert times is not None
    int8, other = times.values()
    how = HOW.format(each=-(-runs // ROUNDS), rounds=ROUNDS, threads=threads)
    return Found(tuple(figures(times)), (by_kind(times), by_layer(int8, other, times)), (how,))


def figures(times: dict[str, LayerTimes]) -> list[Figure]:
    """The ratio of the two, by their sums and by the clock; and what the sums account for."""
    int8, other = times.values()
    name = [*times][1].upper()
    assert int8.latency_ms is not None and other.latency_ms is not None
    rows = [
        Figure(f"INT8 / {name}, sum of the nodes", int8.total / other.total),
        Figure(f"INT8 / {name}, latency without the profile", int8.latency_ms / other.latency_ms),
    ]
    for precision, found in times.items():
        assert found.latency_ms is not None
        share = found.total / found.latency_ms
        rows.append(Figure(f"{precision.upper()}, sum of the nodes / latency", share, "{:.2f}"))
    return rows


def by_kind(times: dict[str, LayerTimes]) -> Table:
    """Milliseconds of each kind of node; a dash where a network has none of it."""
    int8, other = times.values()
    names = sorted({*int8.kinds, *other.kinds}, key=lambda n: -int8.kinds.get(n, 0.0))
    rows = [(name, int8.kinds.get(name), other.kinds.get(name)) for name in names]
    rows = [row for row in rows if any(row[1:])]
    rows.append(("everything", int8.total, other.total))
    return Table("By kind of node, ms", (Column("Kind"), *_columns(times)), tuple(rows))


def by_layer(int8: LayerTimes, other: LayerTimes, times: dict[str, LayerTimes]) -> Table:
    """Milliseconds of each convolution, of what else the blocks do, and of the rest."""
    costs = int8_costs(times)
    rows: list[tuple[Any, ...]] = [
        (name, int8.precisions[name], cost.int8_ms, cost.float_ms, cost.lost_ms)
        for name, cost in costs.items()
    ]
    blocks = [
        (f"{name}, other", int8.others.get(name, 0.0), other.others.get(name, 0.0))
        for name in dict.fromkeys([*int8.others, *other.others])
    ]
    for name, mine, theirs in [*blocks, ("rest", int8.rest, other.rest)]:
        rows.append((name, None, mine, theirs, theirs - mine))
    columns = (Column("Layer"), Column("Runs in"), *_columns(times), Column("Lost", "{:+.3f}"))
    return Table("By layer, ms", columns, tuple(rows))


def _columns(times: dict[str, LayerTimes]) -> list[Column]:
    return [Column(name.upper(), MS) for name in times]


if __name__ == "__main__":
    raise SystemExit(main("profile_layers", measure))
