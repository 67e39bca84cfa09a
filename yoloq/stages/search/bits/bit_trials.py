"""Trials: choices calibrated, repaired and run on val as PTQ will do it; and which next."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from yoloq.base.files import temporary_folder
from yoloq.base.machine import torch_device
from yoloq.base.say import say
from yoloq.engines.predictor import any_image
from yoloq.engines.torch import TorchPredictor
from yoloq.measure.latency import measure_predictors
from yoloq.quant.mixed.allot import Choice, Options, summed
from yoloq.quant.mixed.width import Width
from yoloq.quant.packed_file import packed_size
from yoloq.quant.ptq import calibrate_model
from yoloq.quant.quantized import QuantizedModel
from yoloq.stages.row import find
from yoloq.stages.search.bits.bit_lines import BitsTested
from yoloq.stages.search.bits.bit_space import BitSpace, named
from yoloq.stages.search.bits.prices import Prices
from yoloq.stages.search.predict import fit
from yoloq.stages.search.screen import Workshop
from yoloq.stages.sensitivity.run_sweep import scorer


@dataclass
class BitTrials:
    """Measures choices, each once, and knows what came out.

    Attributes:
        options: of each sensitivity, every layer's widths with loss and cost.
        by: the sensitivity that predictions are made with.
        uniform: settings of one width for all, by name; they are compared with, and no trials.
        choices: what was tried, by name.
    """

    shop: Workshop
    space: BitSpace
    prices: Prices
    options: Mapping[str, Options]
    by: str
    uniform: dict[str, Choice] = field(default_factory=dict)
    choices: dict[str, Choice] = field(default_factory=dict)
    took: list[float] = field(default_factory=list)

    def compare(self, width: Width) -> BitsTested:
        """What one width for all comes to."""
        name = f"everything in {width}"
        self.uniform[name] = self.space.uniform(width)
        return self._known_or_measured(name, self.uniform[name])

    def test(self, choice: Choice) -> BitsTested:
        """What a choice comes to, measured now or before."""
        name = self.name_of(choice) or named(choice)
        if name not in self.uniform:
            self.choices[name] = choice
        return self._known_or_measured(name, choice)

    def name_of(self, choice: Choice) -> str | None:
        """The name of a choice that was measured or compared with; None: it is new."""
        return next((name for name, other in self.all.items() if other == choice), None)

    @property
    def all(self) -> dict[str, Choice]:
        """Uniform settings, then what was tried."""
        return self.uniform | self.choices

    def line(self, name: str) -> BitsTested:
        """What was measured of one of them."""
        return self.shop.journal.line(BitsTested, name)

    def cost(self, name: str) -> float:
        """What one of them takes of the budget, as measured where that can be."""
        line = self.line(name)
        if self.prices.budget.kind == "size":
            return line.size_bytes
        return self.prices.whole(self.all[name]) if line.ms is None else line.ms

    def within(self) -> list[str]:
        """Names of those that meet the budget, the best first; of equal ones the cheaper."""
        names = [name for name in self.all if self.cost(name) <= self.prices.budget.limit]
        return sorted(names, key=lambda n: (-self.line(n).fidelity[0], self.cost(n)))

    def share(self) -> float:
        """What may be planned of the budget, where what was measured costs more than planned."""
        over = [self.cost(n) / self.prices.whole(choice) for n, choice in self.choices.items()]
        return 1 / max(1.0, *over) if over else 1.0

    def loss(self, choice: Choice, by: str) -> float:
        """The sum of what its layers lose."""
        return summed(self.options[by], choice, "loss")

    def predicted(self, choice: Choice) -> float | None:
        """The loss of fidelity that is expected, through what was measured so far."""
        known = [
            (self.loss(other, self.by), 1 - line.fidelity[0])
            for name, other in self.all.items()
            if other is not choice and (line := self.shop.journal.find(BitsTested, name))
        ]
        law = fit(known)
        return None if law is None else law(self.loss(choice, self.by))

    def _known_or_measured(self, name: str, choice: Choice) -> BitsTested:
        line = self.shop.journal.find(BitsTested, name)
        return line or self._measured(name, choice)

    def _measured(self, name: str, choice: Choice) -> BitsTested:
        began, inputs = time.perf_counter(), self.shop.inputs
        quantized = self._repaired(choice)
        device = torch_device(self.shop.config.device)
        predictor = TorchPredictor(quantized.model.net, inputs.info, device, "int8")
        score = scorer(inputs)(find(inputs, predictor, title=f"detect, {name}"))
        figures = {"fidelity": score.fidelity.tolist(), "map50_95": score.map50_95.tolist()}
        line = BitsTested(
            name,
            **{k: tuple(round(v, 7) for v in values) for k, values in figures.items()},
            size_bytes=packed_size(quantized),
            ms=self._milliseconds(quantized),
            predicted=self.predicted(choice),
        )
        self.shop.journal.append(line)
        self.took.append(time.perf_counter() - began)
        say(f"{self.described(name)}; {self.left()}")
        return line

    def _repaired(self, choice: Choice) -> QuantizedModel:
        inputs = self.shop.inputs
        rest = (self.shop.collected, self.space.calibrator, inputs.ops)
        quantized = calibrate_model(inputs.model, self.space.policy(choice), *rest)[0]
        return self.shop.repaired(quantized)

    def _milliseconds(self, quantized: QuantizedModel) -> float | None:
        """Of its engine, alone; None where the budget is of something else."""
        if self.prices.budget.kind != "latency":
            return None
        shop, config = self.shop, self.shop.config
        quantized.model.net.cpu()
        with temporary_folder(config.folder, "search") as folder:
            file = shop.engine.make(shop.source(quantized), "int8", folder)
            engine = shop.engine.load(file, "int8", config.device, shop.threads)
            image = any_image(shop.inputs.imgsz)
            runs, threads = config.runs, shop.threads
            return measure_predictors({"this": engine}, image, runs, threads=threads)["this"].p50

    def described(self, name: str) -> str:
        """One line for the terminal."""
        line = self.line(name)
        text = f"{name}: {self.prices.budget.text(self.cost(name))}, "
        text += f"fidelity {line.fidelity[0]:.3f}, AP50-95 {100 * line.map50_95[0]:.2f}"
        expected = "" if line.predicted is None else f" (predicted {1 - line.predicted:.3f})"
        return text + expected

    def left(self) -> str:
        """How many trials are done, and how long the others will take."""
        done, most = len(self.choices), self.shop.config.trials
        seconds = round((most - done) * sum(self.took) / len(self.took))
        return f"{done} of {most} trials, left {timedelta(seconds=seconds)}"


def search(trials: BitTrials, widths: Sequence[Width]) -> None:
    """Uniform settings, the best by each sensitivity, then neighbours of the best so far."""
    for width in widths:
        trials.compare(width)
    others = [by for by in trials.options if by != trials.by]
    for by in [trials.by, *others]:
        found = trials.prices.best(trials.options[by], trials.share())
        if found is not None:
            trials.test(found)
    while len(trials.choices) < trials.shop.config.trials:
        following = next(_neighbours(trials), None)
        if following is None:
            break
        trials.test(following)


def _neighbours(trials: BitTrials) -> Iterator[Choice]:
    """Choices in which one layer of the best is raised and others pay for it, which are new.

    First those layers whose predicted loss is largest for what the next width costs more.
    """
    names = trials.within() or sorted(trials.all, key=trials.cost)
    best, options = trials.all[names[0]], trials.options[trials.by]
    for layer, width in _raises(options, best):
        kept = [option for option in options[layer] if option.width == width]
        found = trials.prices.best({**options, layer: kept}, trials.share())
        if found is not None and trials.name_of(found) is None:
            yield found


def _raises(options: Options, choice: Choice) -> list[tuple[str, Width]]:
    """Layers and wider widths for them, the most loss spared for the cost first."""
    found: list[tuple[float, str, Width]] = []
    for layer, of_layer in options.items():
        now = [option for option in of_layer if option.width == choice[layer]]
        for option in of_layer if now else []:  # else a first layer in float, as the engine has it
            loss, cost = now[0].loss - option.loss, option.cost - now[0].cost
            if loss > 0 and cost > 0:
                found.append((loss / cost, layer, option.width))
    return [(layer, width) for _, layer, width in sorted(found, reverse=True)]
