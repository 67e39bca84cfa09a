"""Where the time goes: OpenVINO's own profile, by kind of node and by layer, INT8 and 16 bits."""

from collections.abc import Mapping
from typing import Any

from record import Column, Figure, Found, Table
from subject import Subject, main

from yoloq.base.machine import affinity
from yoloq.engines import get_engine
from yoloq.engines.source import Source
from yoloq.measure.layer_times import ROUNDS, LayerTimes, int8_costs, measure_layer_times
from yoloq.measure.limits import machine_limits, work_of

RUNS = 100
MS = "{:.3f}"
HOW = (
    "Default PTQ. A round compiles an engine, runs it {each} times with OpenVINO's counters on and "
    "{each} times without; {rounds} rounds of each precision in turn, medians over the rounds, on "
    "{threads} threads. A layer has its convolution with the activation, the quantization of its "
    "input where that is done apart, and the reordering of a result; other is what a block does "
    "for no one convolution (Concat, Add, MaxPool, Resize). Lost is what keeping the layer in "
    "float costs, as far as each layer's time is its own. Least is what the machine allows: its "
    "products at the rate of large matrix products, or its bytes at that of a copy in the cache."
)


def measure(subject: Subject) -> Found:
    """The profile of the default engine, and how much of the latency it accounts for."""
    threads, runs = len(affinity()), 10 if subject.limit else RUNS
    subject.folder.mkdir(parents=True, exist_ok=True)
    source = subject.quantized(refine=())
    times = measure_layer_times(
        get_engine("openvino"), source, subject.folder, "cpu", threads, runs
    )
    assert times is not None
    int8, other = times.values()
    floors = least_times(source, int8.precisions, threads)
    how = HOW.format(each=-(-runs // ROUNDS), rounds=ROUNDS, threads=threads)
    rows = figures(times)
    if int8.latency_ms and None not in floors.values():
        least = sum(ms for ms in floors.values() if ms is not None)
        over = int8.latency_ms / least
        rows.append(Figure("INT8, latency / least time of its convolutions", over, "{:.2f}"))
    return Found(tuple(rows), (by_kind(times), by_layer(int8, other, times, floors)), (how,))


def least_times(
    source: Source, precisions: Mapping[str, str], threads: int
) -> dict[str, float | None]:
    """The least milliseconds of each convolution here, in the type that it runs in."""
    work, limits = work_of(source.model.net, source.info.imgsz), machine_limits()
    return {name: work[name].floor_ms(kind, limits, threads) for name, kind in precisions.items()}


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


def by_layer(
    int8: LayerTimes,
    other: LayerTimes,
    times: dict[str, LayerTimes],
    floors: Mapping[str, float | None],
) -> Table:
    """Milliseconds of each convolution, of what else the blocks do, and of the rest."""
    costs = int8_costs(times)
    rows: list[tuple[Any, ...]] = [
        (name, int8.precisions[name], cost.int8_ms, cost.float_ms, cost.lost_ms, floors[name])
        for name, cost in costs.items()
    ]
    blocks = [
        (f"{name}, other", int8.others.get(name, 0.0), other.others.get(name, 0.0))
        for name in dict.fromkeys([*int8.others, *other.others])
    ]
    for name, mine, theirs in [*blocks, ("rest", int8.rest, other.rest)]:
        rows.append((name, None, mine, theirs, theirs - mine, None))
    columns = (
        *(Column("Layer"), Column("Runs in"), *_columns(times)),
        *(Column("Lost", "{:+.3f}"), Column("Least", MS)),
    )
    return Table("By layer, ms", columns, tuple(rows))


def _columns(times: dict[str, LayerTimes]) -> list[Column]:
    return [Column(name.upper(), MS) for name in times]


if __name__ == "__main__":
    raise SystemExit(main("profile_layers", measure))
