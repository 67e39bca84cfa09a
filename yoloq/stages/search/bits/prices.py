"""What a choice of widths costs in the unit of the budget."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from yoloq.base.errors import EngineError, PolicyError
from yoloq.base.say import warn
from yoloq.measure.layer_times import measure_layer_times
from yoloq.quant.mixed.allot import Choice, Option, Options, allot, cheapest
from yoloq.quant.mixed.budget import Budget
from yoloq.quant.mixed.costs import Layer, bit_operations, size
from yoloq.quant.mixed.width import EDGE, FLOAT, Width, counted
from yoloq.quant.observer import Collected
from yoloq.quant.packed_file import packed_size
from yoloq.quant.ptq import calibrate_model
from yoloq.quant.statistics import Statistics
from yoloq.stages.run import Inputs
from yoloq.stages.search.bits.bit_space import BitSpace
from yoloq.stages.search.screen import Workshop
from yoloq.stages.search.trial_lines import Profiled

KERNELS = (EDGE, FLOAT)  # widths that engines have kernels for
RULE = 32  # bytes at most of a rule of a policy in the packed file's compressed index

Losses = Mapping[str, Mapping[str, float]]  # of each layer, by width


@dataclass(frozen=True)
class Prices:
    """What is spent of a budget: `of` a layer at a width, and `rest` whatever is chosen."""

    budget: Budget
    space: BitSpace
    of: Callable[[Layer, Width], float]
    rest: float = 0.0

    def options(self, losses: Losses | None = None) -> Options:
        """Every layer's widths with their cost and loss; a layer in float loses nothing."""
        return {
            layer.name: [
                Option(width, _loss(losses, layer.name, width), self.of(layer, width))
                for width in layer.widths
            ]
            for layer in self.space.layers
        }

    def whole(self, choice: Mapping[str, Width]) -> float:
        """All that a choice costs."""
        return self.rest + sum(self.of(layer, choice[layer.name]) for layer in self.space.layers)

    def best(self, options: Options, share: float = 1.0) -> Choice | None:
        """The choice that loses least within a share of the budget; None: nothing is within it."""
        left = self.budget.limit * share - self.rest
        return allot(options, self.space.groups, left) if left > 0 else None

    def check(self) -> None:
        """Find a budget that nothing meets, or that asks for no integers.

        Raises:
            PolicyError: so it is; says what the nearest choice costs, or everything in float.
        """
        nearest = cheapest(self.options(), self.space.groups)
        least, budget = self.whole(nearest), self.budget
        if least > budget.limit:
            raise PolicyError(
                f"--budget {budget.asked}: the least here is {budget.text(least)} "
                f"({counted(nearest.values())} bits); raise it, or give narrower --bits"
            )
        floats = self.whole(self.space.everywhere(FLOAT))
        if all(FLOAT in layer.widths for layer in self.space.layers) and floats <= budget.limit:
            raise PolicyError(
                f"--budget {budget.asked}: everything in float takes {budget.text(floats)}, which "
                "is within it; lower it, or give --bits without 16"
            )


def _loss(losses: Losses | None, layer: str, width: Width) -> float:
    return losses[layer][str(width)] if losses and width.quantized else 0.0


def operations(inputs: Inputs, space: BitSpace, budget: Budget) -> Prices:
    """Bit operations of an image."""
    return Prices(budget, space, bit_operations)


def sizes(inputs: Inputs, space: BitSpace, budget: Budget) -> Prices:
    """Bytes of a packed file; its index is that of a policy with a rule for each layer."""
    nothing = Statistics(0.0, 1.0, np.ones(1, np.int64), *np.zeros((2, 1), np.float32))
    names = [layer.name for layer in space.layers]
    made_up = Collected(dict.fromkeys(names, nothing), dict.fromkeys(names, (0.0, 1.0)))
    choice = space.everywhere(EDGE)
    policy = space.policy(choice)
    packed = packed_size(calibrate_model(inputs.model, policy, made_up, "max", inputs.ops)[0])
    weights = sum(size(layer, choice[layer.name]) for layer in space.layers)
    return Prices(budget, space, size, packed - weights + RULE * len(names))


def milliseconds(shop: Workshop, space: BitSpace, budget: Budget) -> Prices:
    """Milliseconds of an image on the engine, from its profile.

    What all layers in float take more than in integers is scaled to what whole runs do.

    Raises:
        EngineError: the engine has no profile.
    """
    line = shop.journal.find(Profiled, shop.engine.name) or _profile(shop, space)
    whole, floats = line.latency
    apart = sum(other - own for own, other in line.blocks.values())
    scale = (floats - whole) / apart if apart * (floats - whole) > 0 else 1.0

    def cost(layer: Layer, width: Width) -> float:
        own, other = line.blocks[layer.name]
        return own if width.quantized else own + (other - own) * scale

    rest = whole - sum(own for own, _ in line.blocks.values())
    return Prices(budget, space, cost, rest)


def _profile(shop: Workshop, space: BitSpace) -> Profiled:
    """Times of each layer in int8 and in float, measured now."""
    policy = space.policy(space.everywhere(EDGE))
    quantized = calibrate_model(
        shop.inputs.model, policy, shop.collected, space.calibrator, shop.inputs.ops
    )[0]
    config = shop.config
    times = measure_layer_times(
        shop.engine,
        shop.source(quantized),
        config.folder,
        config.device,
        shop.threads,
        config.runs,
    )
    if times is None:
        raise EngineError(
            f"--budget {config.budget}: {shop.engine.name} has no profile to plan with; give a "
            "size or bops"
        )
    int8, floats = times["int8"], next(v for k, v in times.items() if k != "int8")
    layers = {n: (ms, floats.layers[n]) for n, ms in int8.layers.items()}
    latency = (int8.latency_ms or int8.total, floats.latency_ms or floats.total)
    line = Profiled(shop.engine.name, layers, latency)
    shop.journal.append(line)
    return line


def with_kernels(engine: str, widths: tuple[Width, ...]) -> tuple[Width, ...]:
    """The widths that engines run; of the others one line says that they do not.

    Raises:
        EngineError: none is left.
    """
    lacking = [width for width in widths if width not in KERNELS]
    left = tuple(width for width in widths if width in KERNELS)
    if not lacking:
        return left
    names = ", ".join(map(str, lacking))
    text = f"--bits {names}: {engine} has no kernels for them, so that they save no time"
    if EDGE not in left:
        raise EngineError(f"{text}; give 8, or a budget of size or bops")
    warn(f"{text}: left out")
    return left
