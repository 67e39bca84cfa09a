"""Where an engine's time goes: its profile, summed up by the layers of the network."""

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median

from yoloq.base.files import temporary_folder
from yoloq.engines.base import Engine, NodeTime
from yoloq.engines.predictor import any_image
from yoloq.engines.source import Source
from yoloq.graph.names import SCOPE, beside, convolution_of, module_of
from yoloq.measure.latency import measure_predictors
from yoloq.quant.policy import block_of

ROUNDS = 5
PAIR = re.compile(r"^(?P<tensor>.+?)_D?Q(_\d+)?(/duplicated)?$")  # a quantization; OpenVINO counts
CONVOLUTION = re.compile(r"Conv(olution|Integer)?$")  # among the engines' names of operators

Readers = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class LayerTimes:
    """Milliseconds of one run of an engine, by what they were spent for.

    Attributes:
        layers: of each convolution with its activation, the quantization and the reordering of its
            input where the engine does these apart, and the reordering of a result of the network.
        others: by block, what serves no one convolution: Concat, Add, MaxPool, Resize.
        rest: what belongs to no block: the image's way to the first convolution.
        precisions: the type that each convolution ran in.
        kinds: the whole again, by kind of node and type, such as "Convolution int8"; what does
            nothing but quantize is "Quantize", whatever the engine calls it.
        latency_ms: of a call without the profile, which itself takes some time; None: not measured.
    """

    layers: Mapping[str, float]
    others: Mapping[str, float]
    rest: float
    precisions: Mapping[str, str] = field(default_factory=dict)
    kinds: Mapping[str, float] = field(default_factory=dict)
    latency_ms: float | None = None

    @property
    def total(self) -> float:
        """Sum over everything."""
        return sum(self.layers.values()) + sum(self.others.values()) + self.rest


@dataclass(frozen=True)
class LayerCost:
    """What a layer takes in int8 and in float, in milliseconds."""

    int8_ms: float
    float_ms: float

    @property
    def lost_ms(self) -> float:
        """What keeping the layer in float costs; negative where its int8 is the slower one."""
        return self.float_ms - self.int8_ms


def layer_times(
    nodes: Sequence[NodeTime], layers: Collection[str], readers: Readers | None = None
) -> LayerTimes:
    """Count every node of a profile for the convolution that it serves; nothing is lost.

    A node that serves several, as the quantization of a tensor that two of them read, counts for
    each with an equal part.

    Args:
        nodes: what an engine's `profile` gave.
        layers: names of the convolutions; each gets a time, be it 0.
        readers: convolutions that read a tensor (`tensor_readers`): a quantization that the engine
            does apart counts for them. Without, it counts for the layer that makes the tensor.
    """
    times, others, rest = dict.fromkeys(layers, 0.0), defaultdict[str, float](float), 0.0
    precisions, kinds = dict[str, str](), defaultdict[str, float](float)
    for node in nodes:
        kinds[_kind(node)] += node.ms
        own = [name for source in node.sources if (name := convolution_of(source, layers))]
        served = list(dict.fromkeys(own)) or _served(node, layers, readers or {})
        if CONVOLUTION.search(node.kind):
            precisions |= {name: node.precision for name in served if name in times}
        for name in served:
            part = node.ms / len(served)
            if name in times:
                times[name] += part
            else:
                others[name] += part
        rest += 0 if served else node.ms
    return LayerTimes(times, dict(others), rest, precisions, dict(kinds))


def _kind(node: NodeTime) -> str:
    """A node's row in `LayerTimes.kinds`."""
    quantizes = bool(node.sources) and all(PAIR.match(source) for source in node.sources)
    return f"{'Quantize' if quantizes else node.kind} {node.precision}"


def _served(node: NodeTime, layers: Collection[str], readers: Readers) -> list[str]:
    """The layers or blocks that a node without a convolution serves; none: it is of no block."""
    pairs = [PAIR.match(source) for source in node.sources]
    work = [source for source, pair in zip(node.sources, pairs, strict=True) if not pair]
    if not work:  # quantizing alone
        tensors = [pair["tensor"] for pair in pairs if pair]
        found = [name for tensor in tensors for name in _readers(tensor, readers)]
        if found:
            return list(dict.fromkeys(found))
    modules = [module_of(name) for name in work or node.sources if name.startswith(SCOPE)]
    found = [layer for name in modules if (layer := beside(name, layers))]
    blocks = [block_of(name) for name in modules]
    return list(dict.fromkeys(found or blocks))[:1]


def _readers(tensor: str, readers: Readers) -> Sequence[str]:
    """Who reads a tensor; its second pair has a number behind its name (`export.QdqGraph`)."""
    return readers.get(tensor) or readers.get(re.sub(r"_\d+$", "", tensor)) or ()


def tensor_readers(source: Source) -> dict[str, list[str]]:
    """The convolutions that read each tensor of the exported graph."""
    graph = source.exported("fp32").model.graph
    layers = source.quantized.placement.layers
    result: dict[str, list[str]] = defaultdict(list)
    for node in graph.node:
        if node.op_type == "Conv":
            result[node.input[0]].append(convolution_of(node.name, layers))
    return dict(result)


def int8_costs(times: Mapping[str, LayerTimes]) -> dict[str, LayerCost]:
    """Cost of each convolution in int8 and in the other precision of `measure_layer_times`."""
    int8 = times["int8"]
    other = next(value for name, value in times.items() if name != "int8")
    return {name: LayerCost(ms, other.layers[name]) for name, ms in int8.layers.items()}


def measure_layer_times(
    engine: Engine, source: Source, folder: Path, device: str, threads: int, runs: int
) -> dict[str, LayerTimes] | None:
    """Profile a network in int8 and in the engine's 16-bit type, or in FP32 if it has none.

    The two are profiled in turn, so that what slows the machine for a while slows both; times are
    medians over the rounds.

    Args:
        folder: where engine files may be for the time of the measurement.
        runs: of each precision, over all rounds.

    Returns:
        By precision, int8 first; None for an engine without a profile.

    Raises:
        UserError: the engine cannot be built.
    """
    if engine.profile is None:
        return None
    float_type = float_precisions(engine.precisions(device))[-1]
    subjects = {name: (source, name) for name in ("int8", float_type)}
    return times_in_turn(engine, subjects, folder, device, threads, runs)


def times_in_turn(
    engine: Engine,
    subjects: Mapping[str, tuple[Source, str]],
    folder: Path,
    device: str,
    threads: int,
    runs: int,
) -> dict[str, LayerTimes]:
    """Profile several builds of an engine that has a profile in turn: medians over the rounds.

    Args:
        subjects: by name what is built, and in which precision.
        folder, device, threads, runs: as of `measure_layer_times`.

    Raises:
        UserError: an engine cannot be built.
    """
    assert engine.profile is not None
    rounds: dict[str, list[LayerTimes]] = {name: [] for name in subjects}
    each = -(-runs // ROUNDS)
    with temporary_folder(folder, "layers") as temporary:
        files = {}
        for name, (source, precision) in subjects.items():
            own = temporary / name  # an engine names its file after the precision
            own.mkdir()
            files[name] = engine.make(source, precision, own)
        for name, (source, precision) in [*subjects.items()] * ROUNDS:
            layers, readers = source.quantized.placement.layers, tensor_readers(source)
            nodes = engine.profile(files[name], precision, device, threads, each)
            # one engine at a time: idle threads of another would go on spinning for a while
            loaded = {name: engine.load(files[name], precision, device, threads)}
            image = any_image(source.info.imgsz)
            latency = measure_predictors(loaded, image, each, threads=threads)[name]
            times = layer_times(nodes, layers, readers)
            rounds[name].append(replace(times, latency_ms=latency.p50))
    return {name: median_times(times) for name, times in rounds.items()}


def float_precisions(names: Iterable[str]) -> list[str]:
    """Those precisions of an engine that hold no int8, FP32 first."""
    return [name for name in names if not name.startswith("int8")]


def median_times(rounds: Sequence[LayerTimes]) -> LayerTimes:
    """The median of each time over several measurements of one engine."""
    first = rounds[0]
    latencies = [r.latency_ms for r in rounds if r.latency_ms is not None]
    return LayerTimes(
        {name: median(r.layers[name] for r in rounds) for name in first.layers},
        {name: median(r.others[name] for r in rounds) for name in first.others},
        median(r.rest for r in rounds),
        first.precisions,
        {name: median(r.kinds[name] for r in rounds) for name in first.kinds},
        median(latencies) if latencies else None,
    )
