"""The search for a policy within an accuracy target, on real measurements."""

from collections.abc import Callable
from typing import Any

import torch

from yoloq.base.journal import Journal
from yoloq.base.machine import torch_device
from yoloq.base.own_files import MAKE
from yoloq.base.say import say
from yoloq.engines.torch import TorchPredictor
from yoloq.geometry.detections import Detections
from yoloq.quant.quantized import QuantizedModel
from yoloq.quant.switch import in_float
from yoloq.stages.row import BASELINE, find
from yoloq.stages.run import Inputs
from yoloq.stages.sensitivity import SensitivityConfig
from yoloq.stages.sensitivity.candidates import Candidate
from yoloq.stages.sensitivity.outcome import Layer, choices
from yoloq.stages.sensitivity.run_sweep import scorer
from yoloq.stages.sensitivity.search import Floats, Found, find_policy
from yoloq.stages.sensitivity.sweep_lines import Tried

Measured = Callable[[Floats], Tried]
UNITS = {"map": "AP50-95", "fidelity": "fidelity"}


def search(
    inputs: Inputs,
    config: SensitivityConfig,
    quantized: QuantizedModel,
    candidates: list[Candidate],
    layers: list[Layer],
    journal: Journal,
) -> dict[str, Any] | None:
    """The policy within `--max-drop`, as plain data; None without a target."""
    if config.max_drop is None:
        return None
    measured = accuracy_of(inputs, quantized, candidates, journal)
    reference = {"fidelity": 1.0, "map": reference_map(inputs)}[config.measure]
    field = {"fidelity": "fidelity", "map": "map50_95"}[config.measure]

    def drop(floats: Floats) -> float:
        return float(reference - getattr(measured(floats), field))

    # layers were scored by fidelity, which is less noisy; the target may be in mAP
    lost = 1 - measured(frozenset()).fidelity
    scale = drop(frozenset()) / lost if lost > 0 else 1.0
    most = max(1, int(config.max_float * len(candidates)))
    found = find_policy(choices(layers, scale), drop, config.max_drop, most)
    say(verdict(config, found, most, layers))
    return {
        "max_drop": config.max_drop,
        "measure": config.measure,
        "floats": list(found.floats),
        "drop": found.drop,
        "reached": found.reached,
        "tried": [[sorted(floats), drop] for floats, drop in found.tried],
    }


def accuracy_of(
    inputs: Inputs, quantized: QuantizedModel, candidates: list[Candidate], journal: Journal
) -> Measured:
    """Measures the network with some candidates in float; each set once, and journalled."""
    net, by_name = quantized.model.net, {c.name: c.layers for c in candidates}
    device: torch.device = torch_device(inputs.config.device)
    predictor = TorchPredictor(net, inputs.info, device, "int8")
    scores = scorer(inputs)

    def measured(floats: Floats) -> Tried:
        name = ",".join(sorted(floats)) or "none"
        line = journal.find(Tried, name)
        if line is None:
            layers = [layer for candidate in floats for layer in by_name[candidate]]
            with in_float(net, quantized.placement, layers, inputs.model.net.to(device)):
                found = find(inputs, predictor, title=f"check the policy, {len(floats)} in float")
            line = Tried(name, scores.fidelity(found), scores.map50_95(found))
            journal.append(line)
        return line

    return measured


def reference_map(inputs: Inputs) -> float:
    """AP50-95 of the FP32 model on the images that are swept."""
    found = Detections.load(inputs.config.folder / BASELINE).first(len(inputs.images))
    return scorer(inputs).map50_95(found)


def verdict(config: SensitivityConfig, found: Found, most: int, layers: list[Layer]) -> str:
    """What the search came to, in one line."""
    unit = UNITS[config.measure]
    drop = f"drop of {unit} {found.drop:+.4f}, target {config.max_drop}"
    if not found.reached:
        return (
            f"no policy with at most {most} of the swept layers in float reaches the target "
            f"({drop}); next: {MAKE} qat"
        )
    if not found.floats:
        return f"the target is reached with every swept layer in int8 ({drop})"
    lost = [layer.lost_ms for layer in layers if layer.name in found.floats]
    times = [ms for ms in lost if ms is not None]
    cost = f", which costs {sum(times):+.2f} ms" if times else ""
    return f"the target is reached with {', '.join(found.floats)} in float{cost} ({drop})"
