"""What a sweep found: the ranked table, its chart, and policies to try."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from yoloq.base.journal import Journal
from yoloq.measure.bootstrap import Interval
from yoloq.quant.policy import Policy, Rule
from yoloq.stages.sensitivity.candidates import Candidate
from yoloq.stages.sensitivity.passes import BASE
from yoloq.stages.sensitivity.scores import ResampledScore, gain, spearman
from yoloq.stages.sensitivity.search import Choice, ranked
from yoloq.stages.sensitivity.sweep_lines import Scored, Screened

Costs = Mapping[str, tuple[float, float]]  # convolution -> its milliseconds in int8 and in float


@dataclass(frozen=True)
class Layer:
    """One line of the table; accuracies are fractions, gains are of keeping the layer in float.

    An interval is [delta, low, high]. `int8_ms` and `float_ms` are the engine's time for the
    layer, None where it was not measured. `worth` is the gain of fidelity per millisecond lost.
    Layers that were not fully scored have only what the first pass gives: the SNR, and
    `places_gain`, by how much boxes and scores come closer at their places.
    """

    name: str
    convolutions: int
    snr: float
    cosine: float
    snr_gain: float
    int8_ms: float | None
    float_ms: float | None
    fidelity: float | None = None
    map50_95: float | None = None
    map50: float | None = None
    fidelity_gain: tuple[float, float, float] | None = None
    map50_95_gain: tuple[float, float, float] | None = None
    map50_gain: tuple[float, float, float] | None = None
    worth: float | None = None
    places_gain: float | None = None

    @property
    def lost_ms(self) -> float | None:
        """Milliseconds that the engine loses with the layer in float; negative where it gains."""
        if self.int8_ms is None or self.float_ms is None:
            return None
        return self.float_ms - self.int8_ms


def table(
    candidates: Sequence[Candidate], journal: Journal, mode: str, costs: Costs | None
) -> list[Layer]:
    """The fully scored layers, most worth first, then the others by the first pass."""
    layers = [_layer(candidate, journal, mode, costs) for candidate in candidates]
    scored = {layer.name: layer for layer in layers if layer.fidelity_gain}
    rest = [layer for layer in layers if layer.name not in scored]
    order = [scored[choice.name] for choice in ranked(choices(list(scored.values())))]
    return order + sorted(rest, key=lambda layer: -(layer.places_gain or 0))


def _layer(candidate: Candidate, journal: Journal, mode: str, costs: Costs | None) -> Layer:
    scored = journal.find(Scored, candidate.name)
    times = [costs[name] for name in candidate.layers] if costs else []
    line = scored or journal.line(Screened, candidate.name)
    layer = Layer(
        name=candidate.name,
        convolutions=len(candidate.layers),
        snr=line.snr,
        cosine=line.cosine,
        snr_gain=snr_gain(journal, type(line), candidate.name, mode),
        int8_ms=sum(int8 for int8, _ in times) if costs else None,
        float_ms=sum(floats for _, floats in times) if costs else None,
        places_gain=places_gain(journal, candidate.name, mode),
    )
    if scored is None:
        return layer
    base, score = ResampledScore.of(journal.line(Scored, BASE)), ResampledScore.of(scored)
    found = gain(base, score) if mode == "leave-one-out" else gain(score, base)
    layer = replace(
        layer,
        fidelity=float(score.fidelity[0]),
        map50_95=float(score.map50_95[0]),
        map50=float(score.map50[0]),
        fidelity_gain=_triple(found.fidelity),
        map50_95_gain=_triple(found.map50_95),
        map50_gain=_triple(found.map50),
    )
    return replace(layer, worth=choices([layer])[0].worth)


def _triple(found: Interval) -> tuple[float, float, float]:
    return found.delta, found.low, found.high


def snr_gain(journal: Journal, part: type[Screened] | type[Scored], name: str, mode: str) -> float:
    """By how many dB keeping the layer in float makes the network's output better.

    Where the layer alone is quantized the output is then exact: minus its SNR says the same order.
    """
    snr = journal.line(part, name).snr
    return snr - journal.line(part, BASE).snr if mode == "leave-one-out" else -snr


def places_gain(journal: Journal, name: str, mode: str) -> float:
    """By how much keeping the layer in float brings boxes and scores closer; 0 if not screened."""
    line, base = journal.find(Screened, name), journal.find(Screened, BASE)
    if line is None or base is None:
        return 0.0
    return base.apart - line.apart if mode == "leave-one-out" else line.apart


def choices(layers: Sequence[Layer], scale: float = 1.0) -> list[Choice]:
    """The scored layers as what a search chooses from; gains of fidelity times `scale`."""
    return [
        Choice(layer.name, scale * layer.fidelity_gain[0], layer.lost_ms)
        for layer in layers
        if layer.fidelity_gain
    ]


def agreement(layers: Sequence[Layer]) -> float | None:
    """Rank correlation of the first pass's score with the gain of fidelity."""
    scored = [(x.places_gain or x.snr_gain, x.fidelity_gain[0]) for x in layers if x.fidelity_gain]
    return spearman([a for a, _ in scored], [b for _, b in scored])


def with_floats(policy: Policy, names: Sequence[str]) -> Policy:
    """The policy with these layers in float as well."""
    return replace(policy, rules=(*policy.rules, *(Rule(name, None, None) for name in names)))


COLUMNS = (  # field, title, format
    ("name", "Layer", "{}"),
    ("fidelity_gain", "Fidelity gain", "{:+.4f}"),
    ("map50_95_gain", "AP gain", "{:+.2f}"),
    ("map50_gain", "AP50 gain", "{:+.2f}"),
    ("places_gain", "First pass", "{:+.5f}"),
    ("snr_gain", "SNR gain dB", "{:+.2f}"),
    ("int8_ms", "int8 ms", "{:.3f}"),
    ("float_ms", "float ms", "{:.3f}"),
    ("worth", "Gain per ms", "{:+.3f}"),
)
POINTS = ("map50_95_gain", "map50_gain")  # AP is shown in points


def rendered(layers: Sequence[Layer], intervals: bool = True) -> list[list[str]]:
    """Header and cells of the table as text."""
    rows = [[title for _, title, _ in COLUMNS]]
    for layer in layers:
        values = asdict(layer)
        rows.append([_cell(name, values[name], form, intervals) for name, _, form in COLUMNS])
    return rows


def _cell(name: str, value: Any, form: str, intervals: bool) -> str:
    if value is None:
        return "-"
    factor = 100 if name in POINTS else 1
    if not isinstance(value, tuple | list):  # a list where it was read from a file
        return form.format(factor * value if factor > 1 else value)
    delta, low, high = (form.format(factor * edge) for edge in value)
    return f"{delta} ({low} to {high})" if intervals else delta
