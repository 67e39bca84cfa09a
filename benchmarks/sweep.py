"""The sensitivity sweep: what reuse saves, and the layers in order."""

import shutil
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from latency import spread
from record import RESULTS, Column, Figure, Found, Table
from subject import Subject, main
from work import block_work

from yoloq.base.machine import keep_freed_memory
from yoloq.models.layered import LayeredNet
from yoloq.quant.quantized import load_quantized
from yoloq.stages.ptq import PtqConfig
from yoloq.stages.ptq import stage as ptq
from yoloq.stages.sensitivity import SensitivityConfig
from yoloq.stages.sensitivity import stage as sensitivity
from yoloq.stages.sensitivity.candidates import Candidate, find_candidates
from yoloq.stages.sensitivity.frontier import Frontier
from yoloq.stages.sensitivity.run_sweep import scorer
from yoloq.stages.sensitivity.shared_walk import float_maps, load
from yoloq.stages.sensitivity.sweep import Geometries, Maps, SwitchedNets, all_found, find

IMAGES, SCREENED = 16, 4  # of the cost; the stage compares a fifth of its images as well
REPETITIONS = 9
MEMORY = 4 * 10**9
COSTS = (Column("Part"), Column("Plain s", "{:.2f}"), Column("Reusing s", "{:.2f}"))
LAYERS = (
    Column("Layer"),
    Column("Fidelity gain", "{:+.4f}"),
    Column("95% interval", "{0[0]:+.4f} to {0[1]:+.4f}"),
    Column("AP gain", "{:+.2f}"),
    Column("95% interval", "{0[0]:+.2f} to {0[1]:+.2f}"),
    Column("AP50 gain", "{:+.2f}"),
    Column("95% interval", "{0[0]:+.2f} to {0[1]:+.2f}"),
    Column("SNR gain dB", "{:+.2f}"),
    Column("int8 ms", "{:.3f}"),
    Column("float ms", "{:.3f}"),
    Column("Fidelity gain per ms", "{:+.4f}"),
)
HOW = (
    "Cost: all blocks of the default policy, leave one out, {images} images, PyTorch on {threads} "
    "threads, plain and reusing in turn, median of {repetitions}. Plain runs every candidate and "
    "the base from the image on; reusing starts at the switched block, and the base moves with it. "
    "By multiplications the blocks that run again are {work:.3f} of a forward pass, the mean over "
    "the candidates.",
    "Layers: default PTQ, all {all} images, every block scored in full; a gain is what keeping the "
    "block in float brings (negative: it brings nothing), with its paired bootstrap interval. "
    "Milliseconds are OpenVINO's own profile; gain per ms counts 0.01 ms at least.",
)


def measure(subject: Subject) -> Found:
    """Cost of the sweep, and both modes' tables."""
    keep_freed_memory()
    costs, work = cost(subject)
    modes = {mode: rank(subject, mode) for mode in ("leave-one-out", "one-at-a-time")}
    agreement = [
        Figure(f"Rank correlation of first pass and fidelity, {mode}", found["rank_correlation"])
        for mode, found in modes.items()
    ]
    how = [
        text.format(
            images=min(IMAGES, len(subject.inputs.images)),
            threads=torch.get_num_threads(),
            repetitions=REPETITIONS,
            work=work,
            all=len(subject.inputs.images),
        )
        for text in HOW
    ]
    tables = [Table(f"Blocks, {mode}", LAYERS, rows(found)) for mode, found in modes.items()]
    return Found((*figures(costs), *agreement), (cost_table(costs), *tables), tuple(how))


Costs = list[dict[str, dict[str, float]]]  # of each repetition: way -> part -> seconds


def cost(subject: Subject) -> tuple[Costs, float]:
    """Seconds of the parts of a plain sweep and of one that reuses, and the share of work."""
    config = subject.config(SensitivityConfig, images=IMAGES)
    ptq.run(subject.config(PtqConfig))
    quantized = load_quantized(subject.folder / "ptq.pt")
    net = quantized.model.net
    assert isinstance(net, LayeredNet)
    candidates = find_candidates(quantized.placement, "block")
    variants = SwitchedNets(net, quantized.placement, config.mode, subject.inputs.model.net)
    ways = {
        "plain": partial(timed_sweep, subject, variants, candidates, False),
        "reusing": partial(timed_sweep, subject, variants, candidates, True),
    }
    found = [{name: way() for name, way in ways.items()} for _ in range(REPETITIONS)]
    shares = block_work(net)
    return found, sum(sum(shares[c.block :]) for c in candidates) / len(candidates)


def timed_sweep(
    subject: Subject, variants: SwitchedNets, candidates: list[Candidate], reusing: bool
) -> dict[str, float]:
    """Seconds of each part; images are loaded before the clock starts."""
    inputs = subject.inputs
    inputs = type(inputs)(
        inputs.config, inputs.model, inputs.dataset, inputs.imgsz, inputs.images[:IMAGES]
    )
    device = torch.device("cpu")
    loaded = list(load(inputs, inputs.images, device))
    geometries: Geometries = [geometry for _, geometry in loaded]
    reference = list(float_maps(inputs, inputs.images[:SCREENED], device))
    scores, clock = scorer(inputs), Clock()
    with TemporaryDirectory(dir=subject.folder) as folder:
        with clock("forward"):
            first = candidates[0].block if reusing else 0
            frontier: Frontier = variants.frontier(
                (batch for batch, _ in loaded), first, MEMORY, Path(folder)
            )
        for candidate in (*candidates, None):
            with clock("forward"):
                if reusing and candidate:
                    variants.move(frontier, candidate.block)
            maps = clock.each("forward", variants.maps(frontier, candidate))
            with clock("decode, NMS, likeness", "forward"):
                found = find(maps, geometries, inputs.boxes_of, reference, lambda _: None)
                boxes, _ = all_found(found)
            with clock("scores and intervals"):
                scores(boxes)
    seconds = {part: value for part, value in clock.seconds.items() if part}
    return seconds | {"whole": sum(seconds.values())}


class Clock:
    """Adds up seconds by part."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, part: str, without: str = "") -> Iterator[None]:
        """Count the time of a block, without what is counted for another part inside it."""
        began, inside = time.perf_counter(), self.seconds[without]
        yield
        self.seconds[part] += time.perf_counter() - began - (self.seconds[without] - inside)

    def each(self, part: str, items: Iterator[Maps]) -> Iterator[Maps]:
        """The items, counting the time that each takes to come."""
        while True:
            with self(part):
                item = next(items, None)
            if item is None:
                return
            yield item


def figures(costs: Costs) -> list[Figure]:
    """Ratios within each repetition."""
    wanted = {
        "forward": ("Forward part, reusing / plain", 0.45),
        "whole": ("Whole sweep, reusing / plain", 0.6),
    }
    result = []
    for part, (name, high) in wanted.items():
        median, (low, most) = spread([c["reusing"][part] / c["plain"][part] for c in costs])
        result.append(Figure(name, median, high=high, note=f"{low:.3f} to {most:.3f}"))
    return result


def cost_table(costs: Costs) -> Table:
    """Median seconds of each part."""
    table = [
        (part, *(spread([c[way][part] for c in costs])[0] for way in ("plain", "reusing")))
        for part in costs[0]["plain"]
    ]
    return Table("Cost", COSTS, tuple(table))


def rank(subject: Subject, mode: str) -> dict[str, Any]:
    """The sweep of all blocks, as the stage does it."""
    config = subject.config(SensitivityConfig, mode=mode, images=0, top=0, force=True)
    result = sensitivity.run(config)
    if not subject.limit:
        chart = RESULTS / subject.name / f"sweep-{mode}.png"
        chart.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(subject.folder / result.artifacts["chart"], chart)
    return result.notes


def rows(found: dict[str, Any]) -> tuple[tuple[Any, ...], ...]:
    """Lines of the table, AP in points."""
    return tuple(
        (
            layer["name"],
            layer["fidelity_gain"][0],
            layer["fidelity_gain"][1:],
            100 * layer["map50_95_gain"][0],
            [100 * edge for edge in layer["map50_95_gain"][1:]],
            100 * layer["map50_gain"][0],
            [100 * edge for edge in layer["map50_gain"][1:]],
            layer["snr_gain"],
            layer["int8_ms"],
            layer["float_ms"],
            layer["worth"],
        )
        for layer in found["layers"]
    )


if __name__ == "__main__":
    raise SystemExit(main("sweep", measure))
