"""What an engine run builds: its variants, their ONNX files, what the linter says, their files."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from yoloq.base.errors import EngineError, PolicyError
from yoloq.base.files import replace_when_whole
from yoloq.base.own_files import MAKE
from yoloq.base.result import StageResult
from yoloq.base.say import say, warn
from yoloq.data.loader import iterate
from yoloq.engines import ENGINES, engine_row
from yoloq.engines.base import Engine, engine_files
from yoloq.engines.options import BuildOptions
from yoloq.engines.predictor import Predictor
from yoloq.engines.source import Calibration, Graph, Source, described
from yoloq.graph.lint.table import LintFinding, lint
from yoloq.graph.lower import lower_minimal
from yoloq.graph.qdq import check_exportable
from yoloq.quant.trace import Op, conv_inputs
from yoloq.stages.ptq.stage import calibration_images, calibration_key, config_of
from yoloq.stages.run import Inputs

SECOND = "int8-qat"  # of two int8 models in one run, the key of the later one
WITH_TYPES = ("fp16", "int8")  # precisions whose graph the linter has rules for


@dataclass(frozen=True)
class EngineVariant:
    """One engine of a run.

    Attributes:
        key: its name in files and rows, the precision but for a second int8 model (`int8-qat`).
        precision: as the engine calls it.
        source: what it is built from.
        title: of its row.
    """

    key: str
    precision: str
    source: Source
    title: str


def build_options(engine: Engine, config: Any) -> BuildOptions:
    """The options of a build among those of a stage.

    Raises:
        EngineError: one is set that the engine does not have (names the engines that do), that its
            installed version does not, or that none of the precisions uses.
    """
    defaults = {field.name: field.default for field in fields(config)}
    names = [field.name for field in fields(BuildOptions)]
    given = {n: value for n in names if (value := getattr(config, n)) != defaults[n]}
    for name in given:
        if name not in engine.options:
            having = ", ".join(each for each in ENGINES if name in engine_row(each).options)
            flag = name.replace("_", "-")
            raise EngineError(
                f"--{flag}: the {engine.name} engine has no such option; it is of {having}"
            )
    if engine.compiler is not None:
        engine.compiler.check(config.precisions, given)
    return BuildOptions(**given)


def check_names(engine: Engine, options: BuildOptions, ops: Sequence[Op]) -> None:
    """Find slips in the names of layers before hours of calibrating and building.

    Raises:
        EngineError: an option names no convolution of the network; near names are listed.
    """
    if engine.compiler is not None:
        engine.compiler.check_names(options, list(conv_inputs(ops)))


def calibration(inputs: Inputs, ptq: StageResult) -> Calibration:
    """The images that PTQ was calibrated on, for an engine that calibrates by itself.

    Raises:
        DataError: train is missing, or has no image of its own.
    """
    config = config_of(inputs.config, ptq)
    chosen = calibration_images(inputs, config)

    def batches() -> Iterator[NDArray[np.uint8]]:
        for batch in iterate(chosen, inputs.imgsz, config.batch_size, config.workers):
            yield np.asarray(batch.images)

    return Calibration(calibration_key(inputs, config, chosen), len(chosen), batches)


def title(precision: str) -> str:
    """What a row of a precision is called, but for int8: that has the name of the stage too."""
    kind, *way = precision.split("-")
    return " ".join([kind.upper(), *way])


def make_variants(precisions: Sequence[str], sources: Mapping[str, Source]) -> list[EngineVariant]:
    """An engine for each precision, and for each int8 model.

    Args:
        sources: by the stage that made the int8 model, `ptq` or `qat`; the first also serves what
            is not int8.
    """
    variants = []
    for precision in precisions:
        if precision != "int8":
            first = next(iter(sources.values()))
            variants.append(EngineVariant(precision, precision, first, title(precision)))
            continue
        keys = (precision, SECOND)
        for key, (stage, source) in zip(keys, sources.items(), strict=False):
            variants.append(EngineVariant(key, precision, source, f"INT8 {stage.upper()}"))
    return variants


def exportable(engine: Engine, sources: Mapping[str, Source], precisions: Sequence[str]) -> bool:
    """Whether the int8 models can be written as ONNX: not where they can only be simulated.

    Raises:
        PolicyError: so it is, and the engine is to run them in int8.
    """
    nets = [source.net("int8") for source in sources.values()]
    if "int8" in precisions and not engine.simulated:
        for net in nets:
            check_exportable(net, engine.activation_bits)
    try:
        for net in nets:
            check_exportable(net)
    except PolicyError as error:
        say(f"no int8 ONNX file: {error}")
        return False
    return True


def write_onnx(sources: Mapping[str, Source], int8: bool, folder: Path) -> dict[str, str]:
    """The FP32 graph and the Q/DQ graphs, for any other tool that reads ONNX; names by key."""
    first = next(iter(sources.values()))
    graphs = {"fp32": first.exported("fp32").model}
    for key, source in zip(("int8", SECOND), sources.values(), strict=False):
        if int8:
            graphs[key] = lower_minimal(source.exported("int8"), source.net("int8"))
    return {
        f"onnx-{key}": _save(described(model, first.info), folder / f"model-{key}.onnx")
        for key, model in graphs.items()
    }


def _save(model: onnx.ModelProto, file: Path) -> str:
    with replace_when_whole(file) as temporary:
        onnx.save(model, temporary)
    return file.name


def lint_graphs(
    engine: Engine, variants: Sequence[EngineVariant], graphs: Mapping[str, Graph], folder: Path
) -> dict[str, str]:
    """Find out before a long build what the engine will refuse, and say what will be slow.

    Graphs that the engine keeps are written, and those with findings, for `make lint-onnx`.

    Returns:
        File names by key, `graph-int8` for example.

    Raises:
        EngineError: a rule is broken that the engine insists on.
    """
    names: dict[str, str] = {}
    if engine.lower is None or not engine.target:
        return names
    for variant in variants:
        if variant.precision not in WITH_TYPES:
            continue
        graph = graphs[variant.key].model
        findings = lint(graph, engine.target, here=True)
        if variant.source.options.dla >= 0:  # what is slow on a GPU is what a DLA wants
            findings = [found for found in findings if found.level == "error"]
        file = folder / f"{engine.name}-{variant.key}-graph.onnx"
        if findings or engine.keeps_graph:
            names[f"graph-{variant.key}"] = _save(graph, file)
        if findings:
            see = f"all of it: {MAKE} lint-onnx ONNX={file} TARGET={engine.target} ARGS=--all"
            _report(
                f"{engine.name} {variant.key}", findings, _placement_hint(engine, variant) + see
            )
    return names


def _placement_hint(engine: Engine, variant: EngineVariant) -> str:
    """What to do where quantizers were placed for another engine; empty where they were not."""
    policy, usual = variant.source.quantized.policy, engine.defaults()
    same = (policy.sharing, policy.residual) == (usual.sharing, usual.residual)
    if variant.precision != "int8" or same:
        return ""
    return f"{MAKE} ptq ENGINE={engine.name} places quantizers as it wants them; "


def _report(title: str, findings: Sequence[LintFinding], everything: str) -> None:
    """Raise the first error, say the warnings by rule."""
    for found in findings:
        if found.level == "error":
            node = f" [{found.nodes[0]}]" if found.nodes else ""
            raise EngineError(
                f"{title}: {found.rule}: {found.message}{node}; {found.fix}; {everything}"
            )
    counts = Counter(found.rule for found in findings)
    rules = ", ".join(f"{rule} ({count})" for rule, count in counts.items())
    warn(f"{title}: its graph will run slower than it could: {rules}; {everything}")


def build(
    engine: Engine,
    graphs: Mapping[str, Graph],
    folder: Path,
    device: str,
    threads: int,
    why_not: str = "",
) -> tuple[dict[str, Predictor], dict[str, Path]]:
    """Engine files in a folder and loaded predictors, by key.

    An engine names its file after the precision. What has another key is built first and renamed.

    Args:
        graphs: by key.
        why_not: the engine cannot run here; its predictors then only say what they are.
    """
    predictors: dict[str, Predictor] = {}
    files: dict[str, Path] = {}
    for key, graph in sorted(graphs.items(), key=lambda item: item[0] == item[1].precision):
        say(f"{engine.name} {key}: building")
        file = engine.build(graph, folder)
        file = _moved(file, folder / f"{engine.name}-{key}{file.suffix}")
        files[key] = file
        if why_not:
            predictors[key] = engine.unloaded(file, why_not)
        else:
            predictors[key] = engine.load(file, graph.precision, device, threads)
    return {key: predictors[key] for key in graphs}, {key: files[key] for key in graphs}


def publish(files: Mapping[str, Path], folder: Path) -> dict[str, Path]:
    """Engine files under the names that others read, in the place of earlier ones."""
    return {key: _moved(file, folder / file.name) for key, file in files.items()}


def _moved(file: Path, to: Path) -> Path:
    """An engine file, and the weights beside it, elsewhere."""
    if file != to:
        to.unlink(missing_ok=True)  # an .xml never stands beside the .bin of another model
        for part in reversed(engine_files(file)):
            part.replace(to.with_suffix(part.suffix))
    return to


def artifact_names(files: Mapping[str, Path]) -> dict[str, str]:
    """Engine file names by key, and `fp32.bin` for weights that lie beside one."""
    names: dict[str, str] = {}
    for key, file in files.items():
        main, *beside = engine_files(file)
        names |= {key: main.name} | {f"{key}{f.suffix}": f.name for f in beside}
    return names
