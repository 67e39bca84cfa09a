"""PTQ: place quantizers, calibrate them on images of the train split, measure what it costs."""

import json
import time
from collections.abc import Iterable
from dataclasses import asdict, fields, replace
from pathlib import Path

from yoloq.base.config import AUTO, StageConfig
from yoloq.base.errors import PolicyError
from yoloq.base.files import LFS_ADVICE, hashes, is_lfs_pointer
from yoloq.base.machine import torch_device
from yoloq.base.result import StageResult, input_key
from yoloq.base.say import say, warn
from yoloq.data.loader import sample
from yoloq.engines import engine_row
from yoloq.models.load import LoadedModel
from yoloq.quant.amax_by_hand import resolve_amax, set_amax
from yoloq.quant.amax_flag import parse_amax
from yoloq.quant.calibrate import DeadChannels
from yoloq.quant.moved import moves_of
from yoloq.quant.moved.float_twin import check_movable
from yoloq.quant.observer import Collected
from yoloq.quant.placed import placed
from yoloq.quant.policy import Placement, Policy, conv_layers, default_policy, resolve
from yoloq.quant.ptq import calibrate_model, collect_from_images, has_all
from yoloq.quant.quantized import QuantizedModel, save_quantized
from yoloq.quant.refine import check_images
from yoloq.quant.spec import QuantSpec, granularity_of
from yoloq.quant.statistics_file import load_statistics, save_statistics
from yoloq.quant.trace import sibling_groups
from yoloq.stages.baseline import BaselineConfig
from yoloq.stages.baseline.stage import run as run_baseline
from yoloq.stages.end import command
from yoloq.stages.ptq import PtqConfig
from yoloq.stages.ptq.repaired import PARTS, repaired, with_moves
from yoloq.stages.row import describe, save_records, simulated_int8
from yoloq.stages.run import Inputs, as_config, earlier, finished, open_inputs, package_versions

STATISTICS = "statistics.npz"
CHOSEN = ("float_first", "sharing", "residual")  # of the engine, where they are `auto`
IN_POLICY = ("engine", "symmetric", *CHOSEN)  # options that nothing but the policy follows from
NAMED = 8  # float layers that a line on the terminal names


def run(config: PtqConfig) -> StageResult:
    """Write `ptq.pt` (weights, policy, ranges) and `ptq.json`.

    Raises:
        UserError: an input cannot be used, or a pattern matches no layer.
    """
    began = time.perf_counter()
    inputs = open_inputs(config)
    policy, placement = read_policy(config, inputs)
    check_movable(moves_of(config.refine), inputs.model.net, inputs.ops)
    chosen = calibration_images(inputs, config)
    check_images(config.refine, min(len(chosen), config.refine_images))
    baseline = earlier(inputs, "baseline", run_baseline, BaselineConfig)
    policy_json, subject = policy.to_json(), baseline.timeless_key
    key = inputs.key("ptq", without=IN_POLICY, baseline=subject, policy=policy_json)
    done = finished(config.folder, "ptq", key, config.force)
    if done is not None:
        return done
    inputs = inputs.without([Path(name) for name in baseline.notes["skipped"]])
    quantized, dead, seconds = calibrated(inputs, config, policy, placement, chosen)
    moved = inputs.as_moved(quantized.moved)
    seconds["refine"] = repaired(moved, config, quantized, chosen, key)
    save_quantized(config.folder / "ptq.pt", quantized, source=inputs.model.sha256)
    row, record = simulated_int8(inputs, quantized, "INT8 PTQ")
    say(describe(row))
    result = inputs.result(
        "ptq",
        key,
        [row],
        artifacts={"model": "ptq.pt"} | save_records(inputs, "ptq", record),
        seconds=seconds | {"total": time.perf_counter() - began},
        notes={
            "policy": policy_json,
            "layers": [asdict(item) for item in placed(quantized)],
            "dead_channels": [asdict(item) for item in dead],
        },
    )
    result.write(config.folder / "ptq.json")
    (config.folder / PARTS).unlink(missing_ok=True)
    return result


def next_step(config: PtqConfig, found: StageResult) -> str:
    """Build what was calibrated."""
    return command(config, "engine", engine=config.engine)


def read_policy(config: PtqConfig, inputs: Inputs) -> tuple[Policy, Placement]:
    """The policy file, or the policy of the placement flags, and what it comes to in the model.

    It and `--amax` fit the model.

    Raises:
        PolicyError: the file is missing or holds no policy, a pattern matches no convolution of
            the model, nothing is left to quantize, or `--amax` names no quantized convolution;
            names the flag.
    """
    flag, model = f"--policy {config.policy}" if config.policy else "--keep-float", inputs.model
    try:
        policy = policy_of_file(config.policy) if config.policy else policy_of_flags(config, model)
        placement = resolve(policy, inputs.ops)
    except PolicyError as error:
        raise PolicyError(f"{flag}: {error}") from None
    if len(placement.float_layers) == len(placement.layers):
        flag = flag if config.policy or config.keep_float else f"--float-first {config.float_first}"
        raise PolicyError(f"{flag}: leaves every convolution in float; quantize one at least")
    resolve_amax(placement, parse_amax(config.amax))
    return policy, placement


def policy_of_file(name: str) -> Policy:
    """The policy in a JSON file."""
    if is_lfs_pointer(Path(name)):
        raise PolicyError(LFS_ADVICE)
    try:
        return Policy.from_json(json.loads(Path(name).read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", "") or error
        raise PolicyError(
            f"cannot be read ({reason}); give the `policy` of a ptq.json as a file"
        ) from None


def policy_of_flags(config: PtqConfig, model: LoadedModel) -> Policy:
    """The policy of the placement flags; `auto` is what the engine runs fastest."""
    usual = engine_row(config.engine).defaults()
    chosen = asdict(usual) | {k: v for k, v in asdict(config).items() if v != AUTO}
    granularity = granularity_of(config.weights_per, config.group_size)
    weight = QuantSpec(config.weight_bits, granularity, narrow=True)
    activation = QuantSpec(config.activation_bits, symmetric=chosen["symmetric"])
    weight_edge, activation_edge = (
        replace(spec, bits=max(spec.bits, config.edge_bits)) for spec in (weight, activation)
    )
    return default_policy(
        conv_layers(model.net),
        weight=weight,
        activation=activation,
        edges=(weight_edge, activation_edge),
        image=QuantSpec(symmetric=False) if usual.zero_points else None,
        float_head=config.float_head,
        keep_float=config.keep_float,
        **{name: chosen[name] for name in CHOSEN},
    )


def calibration_images(inputs: Inputs, config: PtqConfig) -> tuple[Path, ...]:
    """Images drawn from train, none of which is in val: those are measured on.

    Raises:
        DataError: train is missing, or has no image of its own.
    """
    own = inputs.dataset.train_alone("calibration")
    if shared := len(inputs.dataset.images("train")) - len(own):
        warn(
            f"{shared} images of `train` are in `val` too: left out here, but a model that was "
            "trained on them scores too well; take them out of `val`"
        )
    if len(own) < config.images:
        warn(
            f"{len(own)} calibration images, fewer than --images {config.images}: add images to "
            "`train`; they need no labels"
        )
    return sample(own, config.images, config.seed)


def calibrated(
    inputs: Inputs,
    config: PtqConfig,
    policy: Policy,
    placement: Placement,
    chosen: tuple[Path, ...],
) -> tuple[QuantizedModel, list[DeadChannels], dict[str, float]]:
    """The quantized model with its ranges, the dead channels, and the seconds it took."""
    began = time.perf_counter()
    inputs, moved = with_moves(inputs, config, chosen)
    readers = {plan.calibrator or config.calibrator for plan in placement.layers.values()}
    collected = statistics(inputs, config, sibling_groups(inputs.ops), chosen, readers)
    collecting = time.perf_counter() - began
    quantized, dead = calibrate_model(
        inputs.model, policy, collected, config.calibrator, inputs.ops, placement
    )
    for change in set_amax(quantized.model.net, quantized.placement, parse_amax(config.amax)):
        say(f"{', '.join(change.layers)}: amax {change.after:.4g} by hand, not {change.before:.4g}")
    for item in dead:
        say(f"{item.layer}: {len(item.channels)} dead output channels (all weights are 0)")
    say(describe_placement(quantized.placement))
    seconds = {"statistics": collecting, "ranges": time.perf_counter() - began - collecting}
    return replace(quantized, moved=moved), dead, seconds


def config_of(config: StageConfig, made: StageResult) -> PtqConfig:
    """The options of a PTQ result, in the place and on the machine of another stage's config."""
    here = {field.name for field in fields(StageConfig)} - {"seed"}
    known = {field.name for field in fields(PtqConfig)} - here
    saved = {k: tuple(v) if isinstance(v, list) else v for k, v in made.config.items()}
    return as_config(config, PtqConfig, **{k: v for k, v in saved.items() if k in known})


def describe_placement(placement: Placement) -> str:
    """How many convolutions are in int8 and which are not, in one line."""
    floats = placement.float_layers
    names = ", ".join(floats[:NAMED]) + (", ..." if len(floats) > NAMED else "")
    quantized = len(placement.layers) - len(floats)
    return f"{quantized} convolutions in int8, {len(floats)} in float{names and ': '}{names}"


def calibration_key(inputs: Inputs, config: PtqConfig, chosen: tuple[Path, ...]) -> str:
    """Hash of all that a pass over calibration images depends on."""
    moves = moves_of(config.refine)
    return input_key(
        weights=inputs.model.sha256,
        data=inputs.dataset.sha256,
        images=list(hashes(chosen)),
        imgsz=inputs.imgsz,
        seed=config.seed,
        moves=[*moves, config.refine_images] if moves else [],
        device=str(torch_device(config.device)),
        versions=package_versions(),
    )


def statistics(
    inputs: Inputs,
    config: PtqConfig,
    groups: list[list[str]],
    chosen: tuple[Path, ...],
    calibrators: Iterable[str] = (),
) -> Collected:
    """Statistics of the calibration images, from the run folder where they are still true.

    `--force` collects them anew.

    Args:
        calibrators: that will read them; none: that of the config.
    """
    calibrators = set(calibrators) or {config.calibrator}
    key = calibration_key(inputs, config, chosen)
    file = config.folder / STATISTICS
    cached = None if config.force else load_statistics(file, key)
    if cached is not None and has_all(cached, calibrators):
        say(f"calibration: {file} holds the statistics of these {len(chosen)} images")
        return cached
    inputs.model.net.to(torch_device(config.device))
    collected = collect_from_images(
        inputs.model,
        chosen,
        inputs.imgsz,
        groups=groups,
        batch_size=config.batch_size,
        workers=config.workers,
        seed=config.seed,
        named=str(config.weights),
        calibrators=calibrators,
    )
    save_statistics(file, collected, key)
    return collected
