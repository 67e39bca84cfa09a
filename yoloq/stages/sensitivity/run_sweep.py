"""The parts of a sensitivity sweep: its journal, the engine's times, the passes, the search."""

import json

from yoloq.base.files import sha256_text
from yoloq.base.journal import Journal
from yoloq.base.machine import affinity, torch_device
from yoloq.base.say import say
from yoloq.engines import get_engine
from yoloq.engines.source import Source
from yoloq.geometry.detections import Detections
from yoloq.quant.calibrate import get_ranges
from yoloq.quant.quantized import QuantizedModel
from yoloq.stages.row import BASELINE
from yoloq.stages.run import Inputs, machine, package_versions
from yoloq.stages.sensitivity import SensitivityConfig
from yoloq.stages.sensitivity.candidates import Candidate
from yoloq.stages.sensitivity.outcome import Costs, places_gain
from yoloq.stages.sensitivity.passes import Passes
from yoloq.stages.sensitivity.scores import Scorer
from yoloq.stages.sensitivity.shared_walk import Walk
from yoloq.stages.sensitivity.sweep import SwitchedNets
from yoloq.stages.sensitivity.sweep_lines import LINES, Timed

JOURNAL = "sensitivity.jsonl"
GB = 10**9


def open_journal(inputs: Inputs, config: SensitivityConfig, quantized: QuantizedModel) -> Journal:
    """The journal of this sweep, with what was finished before.

    Raises:
        RunError: it is of other weights, data, policy or options; names them.
    """
    ranges = {name: pair.tolist() for name, pair in get_ranges(quantized.model.net).items()}
    policy = json.dumps([quantized.policy.to_json(), ranges], sort_keys=True)
    subject = {
        "weights": inputs.model.sha256,
        "data": inputs.dataset.sha256,
        "policy": sha256_text(policy),
        "--imgsz": inputs.imgsz,
        "--mode": config.mode,
        "--images": [file.name for file in inputs.images],
        "--screen": config.screen,
        "--seed": config.seed,
        "package versions": package_versions(),
    }
    return Journal(config.folder / JOURNAL, subject, LINES, config.force)


def engine_costs(
    inputs: Inputs, config: SensitivityConfig, quantized: QuantizedModel, journal: Journal
) -> Costs | None:
    """Milliseconds of each convolution in int8 and in the engine's other type; None: not known."""
    engine = get_engine(config.engine)
    if not config.runs or engine.profile is None:
        say("no times: layers are ranked by accuracy alone")
        return None
    threads = config.threads or len(affinity())
    taken = machine(config.device) | {"threads": threads, "runs": config.runs}
    line = journal.find(Timed, engine.name)
    if line is None or line.taken != taken:
        from yoloq.measure.layer_times import int8_costs, measure_layer_times

        source = Source(inputs.info, inputs.model, quantized, device=config.device)
        times = measure_layer_times(
            engine, source, config.folder, config.device, threads, config.runs
        )
        assert times is not None
        costs = {name: (cost.int8_ms, cost.float_ms) for name, cost in int8_costs(times).items()}
        line = Timed(engine.name, costs, taken)
        journal.append(line)
    return line.costs


def sweep(
    inputs: Inputs,
    config: SensitivityConfig,
    quantized: QuantizedModel,
    candidates: list[Candidate],
    journal: Journal,
) -> None:
    """Bring the journal up to date: the first pass, then the full score of the worst."""
    device = torch_device(config.device)
    net = quantized.model.net.to(device)
    floats = inputs.model.net.to(device)
    variants = SwitchedNets(net, quantized.placement, config.mode, floats)  # type: ignore[arg-type]
    memory = int(config.memory * GB)
    passes = Passes(Walk(variants, inputs, config.screen, memory, config.cache), journal)
    if 0 < config.top < len(candidates):
        passes.screen(candidates)
        worst = sorted(candidates, key=lambda c: -places_gain(journal, c.name, config.mode))
        chosen = set(worst[: config.top])
        candidates = [candidate for candidate in candidates if candidate in chosen]
    passes.score(candidates, scorer(inputs))


def scorer(inputs: Inputs) -> Scorer:
    """Against the labels and the baseline's detections of the images that are swept."""
    reference = Detections.load(inputs.config.folder / BASELINE).first(len(inputs.images))
    return Scorer(inputs.truth, reference, inputs.nc, inputs.config.seed)
