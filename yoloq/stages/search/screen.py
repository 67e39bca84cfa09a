"""What predictions rest on: the noise of each block alone, and an engine's profile."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from yoloq.base.journal import Journal
from yoloq.base.machine import torch_device
from yoloq.base.say import say
from yoloq.engines.base import Engine
from yoloq.engines.source import Source
from yoloq.measure.layer_times import LayerTimes, measure_layer_times
from yoloq.quant.observer import Collected
from yoloq.quant.policy import block_of
from yoloq.quant.ptq import calibrate_model
from yoloq.quant.quantized import QuantizedModel
from yoloq.stages.ptq import PtqConfig
from yoloq.stages.ptq.repaired import repair
from yoloq.stages.run import Inputs
from yoloq.stages.search import SearchConfig
from yoloq.stages.search.predict import Forecast
from yoloq.stages.search.space import SIGNS, Point, Space
from yoloq.stages.search.trial_lines import Profiled
from yoloq.stages.sensitivity.candidates import Candidate, block_number
from yoloq.stages.sensitivity.passes import Passes
from yoloq.stages.sensitivity.run_sweep import GB
from yoloq.stages.sensitivity.shared_walk import Walk
from yoloq.stages.sensitivity.sweep import SwitchedNets
from yoloq.stages.sensitivity.sweep_lines import Screened

EVERYTHING = "everything in int8"


@dataclass(frozen=True)
class Workshop:
    """What the parts of a search share; `ptq` is how what it finds will be made."""

    inputs: Inputs
    config: SearchConfig
    engine: Engine
    collected: Collected
    journal: Journal
    threads: int
    ptq: PtqConfig
    calibration: tuple[Path, ...]

    def quantized(self, space: Space, point: Point) -> QuantizedModel:
        """The calibrated model of a placement."""
        model, ops = self.inputs.model, self.inputs.ops
        policy = space.policy(point)
        return calibrate_model(model, policy, self.collected, space.first, ops)[0]

    def repaired(self, quantized: QuantizedModel) -> QuantizedModel:
        """The same model after the repairs that PTQ will do."""
        repair(self.inputs, self.ptq, quantized, self.calibration)
        return quantized

    def source(self, quantized: QuantizedModel) -> Source:
        """What engines are built from."""
        device = self.config.device
        return Source(self.inputs.info, self.inputs.model, quantized, device=device)


def forecast(shop: Workshop, space: Space) -> Forecast:
    """Screen every block with each symmetry and calibrator, and profile the engine."""
    noise: dict[tuple[bool, str, str], float] = {}
    for symmetric in space.symmetries:
        for calibrator in shop.config.calibrators:
            found = block_noise(shop, space, symmetric, calibrator)
            noise |= {(symmetric, calibrator, block): power for block, power in found.items()}
    profiled = profile(shop, space)
    return Forecast(noise, profiled.blocks, profiled.latency)


def block_noise(shop: Workshop, space: Space, symmetric: bool, calibrator: str) -> dict[str, float]:
    """How far boxes and scores are off with each block alone in int8."""
    inputs, config, journal = shop.inputs, shop.config, shop.journal
    title = f"{SIGNS[symmetric]} {calibrator}"
    names = {block: f"{title} {block}" for block in space.blocks}
    if not all(journal.find(Screened, name) for name in names.values()):
        say(f"predicting: each block alone in int8, {title}")
        device = torch_device(config.device)
        plain = Space(space.blocks, space.usual, {}, calibrator)
        quantized = shop.quantized(plain, Point(symmetric, "none", False, ()))
        net = quantized.model.net.to(device)
        variants = SwitchedNets(net, quantized.placement, "one-at-a-time")  # type: ignore[arg-type]
        passes = Passes(Walk(variants, inputs, config.screen, int(config.memory * GB)), journal)
        layers: dict[str, list[str]] = {}
        for name in quantized.placement.layers:
            layers.setdefault(block_of(name), []).append(name)
        candidates = [
            Candidate(names[block], block_number(block), tuple(layers[block]))
            for block in space.blocks
        ]
        passes.screen(candidates)
    lines = {block: journal.line(Screened, name) for block, name in names.items()}
    return {block: line.apart for block, line in lines.items()}


def profile(shop: Workshop, space: Space) -> Profiled:
    """Times of each block in int8 and in float; all alike of an engine that has no profile."""
    line = shop.journal.find(Profiled, shop.engine.name)
    if line is not None:
        return line
    config, point = shop.config, Point(space.usual.symmetric, "none", False, ())
    source = shop.source(shop.quantized(space, point))
    times = measure_layer_times(
        shop.engine, source, config.folder, config.device, shop.threads, config.runs
    )
    if times is None:
        say(f"{shop.engine.name} has no profile: all blocks count as equally slow")
        equal = dict.fromkeys(space.blocks, (1.0, 2.0))
        line = Profiled(shop.engine.name, equal, (1.0 * len(equal), 2.0 * len(equal)))
    else:
        int8, floats = times["int8"], next(v for k, v in times.items() if k != "int8")
        blocks = {block: (_ms(int8, block), _ms(floats, block)) for block in space.blocks}
        latency = (int8.latency_ms or int8.total, floats.latency_ms or floats.total)
        line = Profiled(shop.engine.name, blocks, latency)
    shop.journal.append(line)
    return line


def _ms(times: LayerTimes, block: str) -> float:
    """Of a block's convolutions and of what it does beside them."""
    layers: Mapping[str, float] = times.layers
    own = sum(ms for name, ms in layers.items() if block_of(name) == block)
    return own + times.others.get(block, 0.0)
