"""Halving the quantized layers until the fewest are left that are bad together."""

from collections.abc import Callable, Sequence

Layers = tuple[str, ...]
Measure = Callable[[Layers], float]
Tried = list[tuple[Layers, float]]


class _Trials:
    """Measures each set of layers once; a set is bad below the threshold."""

    def __init__(
        self,
        layers: Sequence[str],
        measure: Measure,
        threshold: float,
        report: Callable[[Layers, float], None],
    ) -> None:
        self.place = {layer: index for index, layer in enumerate(layers)}
        self.measure = measure
        self.threshold = threshold
        self.report = report
        self.values: dict[Layers, float] = {}

    def bad(self, layers: Layers) -> bool:
        """Whether the network is bad with these layers quantized; NaN is bad."""
        layers = tuple(sorted(layers, key=self.place.__getitem__))
        if layers not in self.values:
            self.values[layers] = self.measure(layers)
            self.report(layers, self.values[layers])
        return not self.values[layers] >= self.threshold

    def search(self, candidates: Layers, also: Layers) -> Layers:
        """Candidates that are bad together with `also`.

        `candidates` and `also` are bad together, `also` is not alone.
        """
        if len(candidates) == 1:
            return candidates
        middle = (len(candidates) + 1) // 2
        first, second = candidates[:middle], candidates[middle:]
        for half in (first, second):
            if self.bad(also + half):
                return self.search(half, also)
        needed = self.search(first, also + second)
        return needed + self.search(second, also + needed)

    def minimal(self, layers: Layers) -> Layers:
        """The set without layers that it is bad without."""
        while True:
            rests = [tuple(other for other in layers if other != layer) for layer in layers]
            smaller = next((rest for rest in rests if self.bad(rest)), None)
            if smaller is None:
                return layers
            layers = smaller


def smallest_culprits(
    layers: Sequence[str],
    measure: Measure,
    threshold: float,
    report: Callable[[Layers, float], None] = lambda layers, value: None,
) -> tuple[Layers, Tried]:
    """The fewest quantized layers that are enough to bring a measure below a threshold.

    One half is quantized while the other is in float, and the search goes on in a half that is bad
    alone. Where neither is, it needs layers of both: it searches one half with the other quantized,
    and then the other with what was found. This is delta debugging (A. Zeller, Yesterday, my
    program worked. Today, it does not. Why?, 1999; A. Zeller and R. Hildebrandt, Simplifying and
    isolating failure-inducing input, 2002) with the second search narrowed by the first.

    The result is minimal in that removing any one of its layers brings the measure to the threshold
    or above: this is measured. A smaller set elsewhere is possible, and so are others that are as
    bad: search again without these layers to find them. n layers with k culprits take at most
    2k ceil(log2 n) + k + 2 measurements where quantizing more layers never helps.

    Args:
        layers: names in forward order.
        measure: of the network with these layers quantized and all others in float; higher is
            better. Called once for a set, with the names in forward order.
        threshold: a value below it is bad.
        report: told of each set when it was measured, and its value.

    Returns the culprits in forward order (none where all layers together are good), and each
    measured set with its value, in the order measured.

    Raises:
        ValueError: the measure is below the threshold with no layer quantized.
    """
    trials = _Trials(layers, measure, threshold, report)
    everything = tuple(layers)
    culprits: Layers = ()
    if trials.bad(everything):
        if trials.bad(()):
            raise ValueError(f"below {threshold:g} with every layer in float: no layer is to blame")
        culprits = trials.minimal(trials.search(everything, ()))
    return culprits, list(trials.values.items())
