"""`make search`: the fastest placement at the accuracy asked for, or the best bits in a budget."""

from dataclasses import dataclass

from yoloq.base.config import StageConfig, option, require
from yoloq.engines import ENGINES
from yoloq.quant.calibrators import CALIBRATORS
from yoloq.quant.mixed import SENSITIVITIES
from yoloq.quant.mixed.budget import read_budget
from yoloq.quant.mixed.width import FLOAT, read_widths

MEASURES = ("map", "fidelity")


@dataclass(frozen=True)
class SearchConfig(StageConfig):
    """Find the placement that is fastest at the accuracy asked for: built, run and timed here."""

    engine: str = option("auto", "engine to search for", ("auto", *ENGINES))
    threads: int = option(0, "threads of the engine; 0: as many as cores")
    max_drop: float | None = option(None, "the fastest that loses at most this (0.002: 0.2 AP)")
    max_latency: float | None = option(None, "the best within so many milliseconds")
    measure: str = option("map", "what --max-drop is of", MEASURES)
    bits: tuple[str, ...] = option(
        (), "choose bits layer by layer among these: 4,8,16 (16: float), 4x4", None, read_widths
    )
    budget: str = option("", "of --bits: size=1.2MB, bops=40G or latency=12ms", None, read_budget)
    sensitivity_of: str = option("fisher", "losses that --bits plans with", SENSITIVITIES)
    trials: int = option(12, "int8 engines, or choices of --bits, that are measured")
    images: int = option(500, "measure on the first N images of val; 0: all")
    screen: int = option(32, "images that the predictions are made on")
    calibrators: tuple[str, ...] = option(("mse", "places"), "calibrators to choose from")
    runs: int = option(40, "timed runs of each engine")
    memory: float = option(2.0, "GB of activations kept in memory; the rest goes to files")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.threads >= 0, "--threads", self.threads, "0 (all cores) or more")
        require(self.trials >= 2, "--trials", self.trials, "2 or more")
        require(self.images >= 0, "--images", self.images, "0 (all) or more")
        require(self.screen >= 1, "--screen", self.screen, "1 or more")
        require(self.runs >= 1, "--runs", self.runs, "1 or more")
        require(self.memory >= 0, "--memory", self.memory, "0 or more")
        want = "above 0, at most 1: a fraction, 0.002 is 0.2 points of AP"
        require(self.max_drop is None or 0 < self.max_drop <= 1, "--max-drop", self.max_drop, want)
        slow = self.max_latency is None or self.max_latency > 0
        require(slow, "--max-latency", self.max_latency, "above 0, in milliseconds")
        one = self.max_drop is None or self.max_latency is None
        require(one, "--max-latency", self.max_latency, "left out where --max-drop is given")
        self._check_bits()
        known = bool(self.calibrators) and set(self.calibrators) <= set(CALIBRATORS)
        want = f"some of {', '.join(CALIBRATORS)}"
        require(known, "--calibrators", " ".join(self.calibrators), want)

    def _check_bits(self) -> None:
        """Options that go with `--bits`, and those that do not."""
        text = " ".join(self.bits)
        integers = any(bits != str(FLOAT) for bits in self.bits)
        require(not self.bits or integers, "--bits", text, "of integers too, not float alone")
        require(not self.bits or bool(self.budget), "--bits", text, "given with --budget")
        require(not self.budget or bool(self.bits), "--budget", self.budget, "given with --bits")
        for flag in ("max_drop", "max_latency"):
            value = getattr(self, flag)
            alone = value is None or not self.bits
            name = f"--{flag.replace('_', '-')}"
            require(alone, name, value, "left out where --bits is given; --budget says how much")
