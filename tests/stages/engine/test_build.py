"""What an engine run builds, is told, lints and reports, before and behind the builds."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from inspector_samples import version_11
from tiny_quant import SIZE, tiny_model, tiny_quantized
from tiny_set import TinySet

from yoloq.__main__ import main
from yoloq.base.errors import EngineError
from yoloq.base.result import Row, read_result
from yoloq.engines.base import Compiler, Defaults, Engine, NodeTime
from yoloq.engines.openvino import lower as openvino_graph
from yoloq.engines.options import BuildOptions
from yoloq.engines.predictor import ModelInfo
from yoloq.engines.source import Graph, Source
from yoloq.engines.tensorrt.inspector import read_layers
from yoloq.graph.lint.table import LintFinding
from yoloq.quant.quantized import load_quantized
from yoloq.stages.engine import build as building
from yoloq.stages.engine import layers
from yoloq.stages.engine import stage as engine
from yoloq.stages.engine.build import (
    EngineVariant,
    build,
    build_options,
    lint_graphs,
    make_variants,
)
from yoloq.stages.ptq import stage as ptq
from yoloq.stages.run import open_inputs

pytestmark = pytest.mark.usefixtures("one_thread")

PRECISIONS = ("fp32", "fp16", "int8-implicit", "int8")


def source(**options: Any) -> Source:
    model = tiny_model()
    info = ModelInfo(model.head, model.names, SIZE)
    return Source(info, model, tiny_quantized(), BuildOptions(**options))


def fake_engine(**fields: Any) -> Engine:
    def write(graph: Graph, folder: Path) -> Path:
        file = folder / f"fake-{graph.precision}.txt"
        floats = graph.source.quantized.placement.float_layers
        file.write_text(f"{graph.precision} of {len(floats)}")
        file.with_suffix(".bin").write_text("weights of " + file.read_text())
        return file

    def load(file: Path, precision: str, device: str, threads: int) -> Any:
        return file.read_text()

    return Engine("fake", lambda device: PRECISIONS, write, load, **fields)


def compiler(*options: str) -> Compiler:
    """One that has these options, nothing against them, and calibrates a precision itself."""
    return Compiler(options, *[lambda *given: None] * 3, calibrates=("int8-implicit",))


def graphs_of(row: Engine, variants: list[EngineVariant]) -> dict[str, Graph]:
    return {each.key: row.graph(each.source, each.precision) for each in variants}


def test_an_engine_is_told_its_options() -> None:
    row = fake_engine(compiler=compiler("batch", "fp16_layers"))
    config = engine.EngineConfig(batch=4, fp16_layers=("model.1",))
    assert build_options(row, config) == BuildOptions(batch=4, fp16_layers=("model.1",))
    assert build_options(fake_engine(), engine.EngineConfig()) == BuildOptions()


@pytest.mark.parametrize(
    ("option", "flag", "having"),
    [
        ({"batch": 2}, "--batch", "tensorrt, tensorrt-rtx"),
        ({"max_batch": 8}, "--max-batch", "tensorrt, tensorrt-rtx"),
        ({"workspace": 1.5}, "--workspace", "tensorrt, tensorrt-rtx"),
        ({"tf32": True}, "--tf32", "tensorrt, tensorrt-rtx"),
        ({"level": 5}, "--level", "tensorrt"),
        ({"calibrator": "minmax"}, "--calibrator", "tensorrt"),
        ({"calibrator": "entropy"}, "--calibrator", "tensorrt"),
        ({"fp16_layers": ("model.1",)}, "--fp16-layers", "tensorrt"),
        ({"ranges": ("model.1=2",)}, "--ranges", "tensorrt"),
        ({"compute": ("8.9",)}, "--compute", "tensorrt-rtx"),
        ({"dla": 0}, "--dla", "tensorrt"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_option_of_another_engine(option: dict[str, Any], flag: str, having: str) -> None:
    with pytest.raises(EngineError) as caught:
        build_options(fake_engine(), engine.EngineConfig(**option))
    words = f"{flag}: the fake engine has no such option; it is of {having}"
    assert str(caught.value) == words


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        pytest.param(["--batch", "2"], "--batch: the openvino engine", id="another engine's"),
        pytest.param(["--batch", "0"], "--batch 0: must be 1 or more", id="no image"),
        pytest.param(["--batch", "4", "--max-batch", "2"], "--max-batch 2", id="fewer than batch"),
        pytest.param(["--workspace", "-1"], "--workspace -1.0", id="workspace"),
        pytest.param(["--workspace", "nan"], "--workspace nan", id="no number"),
        pytest.param(["--workspace", "inf"], "--workspace inf: must be 0 (all", id="no end"),
        pytest.param(["--workspace", "1e300"], "--workspace 1e+300", id="beyond any GPU"),
        pytest.param(["--level", "6"], "--level 6: must be 0 to 5", id="level"),
        pytest.param(["--gate", "-1"], "--gate -1", id="gate"),
        pytest.param(["--ranges", "model.1"], "--ranges model.1", id="no range"),
        pytest.param(["--calibrator", "mse"], "--calibrator", id="PTQ's calibrator"),
        pytest.param(["--dla", "-2"], "--dla -2: must be the number of a core", id="no core"),
        pytest.param(
            ["--dla", "0", "--max-batch", "2"], "--max-batch 2: must be left out with", id="DLA"
        ),
        pytest.param(["--compute", "ada"], "--compute ada: must be compute cap", id="no number"),
        pytest.param(["--compute", "89,8"], "--compute 89,8: must be compute", id="one digit"),
    ],
)
def test_mistakes(
    flags: list[str],
    words: str,
    tiny: TinySet,
    tmp_path: Path,
    the_error: Callable[[], str],
) -> None:
    command = tiny.flags(tmp_path, "--engine", "openvino", *flags)
    assert main("engine", command) == 2
    assert words in the_error()
    assert not (tmp_path / "run").exists()


def test_variants() -> None:
    one, two = source(), source(batch=2)
    found = make_variants(PRECISIONS, {"ptq": one, "qat": two})
    assert [(v.key, v.precision, v.title) for v in found] == [
        ("fp32", "fp32", "FP32"),
        ("fp16", "fp16", "FP16"),
        ("int8-implicit", "int8-implicit", "INT8 implicit"),
        ("int8", "int8", "INT8 PTQ"),
        ("int8-qat", "int8", "INT8 QAT"),
    ]
    assert [v.source is two for v in found] == [False, False, False, False, True]
    [alone] = make_variants(("int8",), {"qat": two})
    assert (alone.key, alone.title) == ("int8", "INT8 QAT")


def test_two_int8_engines_of_one_run_have_files_of_their_own(tmp_path: Path) -> None:
    first = source()
    second = replace(first, quantized=tiny_quantized(float_first=3))
    variants = make_variants(("fp32", "int8"), {"ptq": first, "qat": second})
    loaded, files = build(fake_engine(), graphs_of(fake_engine(), variants), tmp_path, "cpu", 1)
    assert list(files) == list(loaded) == ["fp32", "int8", "int8-qat"]
    floats = [len(s.quantized.placement.float_layers) for s in (first, second)]
    assert floats[0] < floats[1]
    assert loaded == {
        "fp32": f"fp32 of {floats[0]}",
        "int8": f"int8 of {floats[0]}",
        "int8-qat": f"int8 of {floats[1]}",
    }
    assert files["int8-qat"].name == "fake-int8-qat.txt"
    assert (tmp_path / "fake-int8-qat.bin").read_text() == f"weights of int8 of {floats[1]}"
    assert building.artifact_names(files)["int8-qat.bin"] == "fake-int8-qat.bin"


def test_a_published_engine_takes_the_place_of_an_earlier_one_with_its_weights(
    tmp_path: Path,
) -> None:
    made, folder = tmp_path / "made", tmp_path / "run"
    for where, text in ((made, "new"), (folder, "old")):
        where.mkdir()
        for name in ("x-int8.xml", "x-int8.bin", "x-fp32.onnx"):
            (where / name).write_text(text)
    (folder / "x-fp16.xml").write_text("old")
    files = {"int8": made / "x-int8.xml", "fp32": made / "x-fp32.onnx"}
    assert building.publish(files, folder) == {
        "int8": folder / "x-int8.xml",
        "fp32": folder / "x-fp32.onnx",
    }
    found = {file.name: file.read_text() for file in folder.iterdir()}
    kept = {"x-fp16.xml": "old"}
    assert found == kept | dict.fromkeys(("x-int8.xml", "x-int8.bin", "x-fp32.onnx"), "new")
    assert not list(made.iterdir())


def test_calibration_has_the_images_and_the_key_of_ptq(tiny: TinySet, tmp_path: Path) -> None:
    flags = tiny.flags(tmp_path, "--images", "3", "--seed", "5")
    assert main("ptq", flags) == 0
    result = read_result(tmp_path / "run" / "ptq.json")
    assert result is not None
    config = engine.EngineConfig(
        weights=str(tiny.weights), data=str(tiny.data), project=str(tmp_path), name="run", workers=0
    )
    inputs = open_inputs(replace(config, batch_size=2))
    made = building.calibration(inputs, result)
    batches = list(made.batches())
    assert made.count == 3 == sum(map(len, batches))
    assert {batch.dtype for batch in batches} == {np.dtype(np.uint8)}
    assert [batch.shape for batch in batches] == [(2, 64, 64, 3), (1, 64, 64, 3)]
    assert [np.array_equal(a, b) for a, b in zip(batches, made.batches(), strict=True)] == [
        True
    ] * 2
    header = np.load(tmp_path / "run" / ptq.STATISTICS, allow_pickle=False)
    saved = next(str(header[name]) for name in header if "key" in name)
    assert made.key in saved


def finding(level: str, rule: str = "a-rule") -> LintFinding:
    return LintFinding(level, rule, ("node 1", "node 2"), "is wrong", "mend it")  # type: ignore[arg-type]


@pytest.fixture
def linted(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[LintFinding]]:
    """What the linter finds in any graph, by target."""
    found: dict[str, list[LintFinding]] = {}

    def lint(model: onnx.ModelProto, target: str, here: bool) -> list[LintFinding]:
        assert here, "what is built is for this machine"
        return found.get(target, [])

    monkeypatch.setattr(building, "lint", lint)
    return found


def variants_of(*precisions: str) -> list[EngineVariant]:
    return make_variants(precisions, {"ptq": source()})


def linting(row: Engine, folder: Path, *precisions: str) -> dict[str, str]:
    variants = variants_of(*precisions)
    return lint_graphs(row, variants, graphs_of(row, variants), folder)


def test_an_error_of_the_linter_stops_the_build(linted: Any, tmp_path: Path) -> None:
    linted["openvino"] = [finding("warning", "slow"), finding("error")]
    row = fake_engine(lower=openvino_graph, target="openvino")
    with pytest.raises(EngineError) as caught:
        linting(row, tmp_path, "fp32", "int8")
    text = str(caught.value)
    assert text.startswith("fake int8: a-rule: is wrong [node 1]; mend it") and "\n" not in text
    file = tmp_path / "fake-int8-graph.onnx"
    assert f"make lint-onnx ONNX={file} TARGET=openvino ARGS=--all" in text
    assert onnx.load(file).graph.output[0].name == "raw0"


def test_warnings_of_the_linter_are_counted(
    linted: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    linted["openvino"] = [finding("warning", "slow"), finding("warning"), finding("warning")]
    linting(fake_engine(lower=openvino_graph, target="openvino"), tmp_path, "int8")
    [line] = capsys.readouterr().err.splitlines()
    assert "warning: fake int8" in line and "slow (1), a-rule (2)" in line
    assert "make lint-onnx" in line and "make ptq" not in line


@pytest.mark.parametrize("level", ["warning", "error"])
def test_what_is_slow_on_a_gpu_is_what_a_dla_wants(
    level: str, linted: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    linted["openvino"] = [finding(level)]
    row = fake_engine(lower=openvino_graph, target="openvino")
    variants = make_variants(("int8",), {"ptq": source(dla=0)})
    if level == "error":
        with pytest.raises(EngineError, match="fake int8: a-rule"):
            lint_graphs(row, variants, graphs_of(row, variants), tmp_path)
    else:
        lint_graphs(row, variants, graphs_of(row, variants), tmp_path)
        assert capsys.readouterr().err == ""


def test_a_placement_for_another_engine_is_said(
    linted: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    linted["openvino"] = [finding("warning")]
    usual = partial(Defaults, sharing="concat")
    row = fake_engine(lower=openvino_graph, target="openvino", defaults=usual)
    linting(row, tmp_path, "int8")
    assert "make ptq ENGINE=fake places quantizers" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("fields", "precisions"),
    [
        pytest.param({"target": "openvino"}, ("int8",), id="no graph"),
        pytest.param({"lower": openvino_graph}, ("int8",), id="no target"),
        pytest.param({"lower": openvino_graph, "target": "openvino"}, ("fp32",), id="no types"),
    ],
)
def test_nothing_to_lint(
    fields: dict[str, Any], precisions: tuple[str, ...], linted: Any, tmp_path: Path
) -> None:
    linted["openvino"] = linted[""] = [finding("error")]
    linting(fake_engine(**fields), tmp_path, *precisions)
    assert not list(tmp_path.iterdir())


def test_graphs_that_an_engine_keeps_are_written_without_a_finding(tmp_path: Path) -> None:
    names = linting(building.engine_row("tensorrt"), tmp_path, "fp32", "fp16", "int8")
    assert names == {
        "graph-fp16": "tensorrt-fp16-graph.onnx",
        "graph-int8": "tensorrt-int8-graph.onnx",
    }
    assert {file.name for file in tmp_path.iterdir()} == set(names.values())
    for name in names.values():
        graph = onnx.load(tmp_path / name).graph
        kinds = {w.data_type for w in graph.initializer if len(w.dims) == 4}
        quantized = {onnx.TensorProto.INT8} if "int8" in name else set()
        assert kinds == {onnx.TensorProto.FLOAT16} | quantized


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_the_graphs_of_the_cpu_engines_have_no_error(name: str, tmp_path: Path) -> None:
    pytest.importorskip(name)
    linting(building.engine_row(name), tmp_path, "int8")


class Told:
    """A predictor that tells its layers."""

    def layers(self) -> Any:
        return read_layers(version_11())


def test_layers_are_written_where_an_engine_tells_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    variants = variants_of("fp32", "int8")
    predictors: dict[str, Any] = {"fp32": object(), "int8": Told()}
    names = layers.write_layers(fake_engine(), variants, predictors, tmp_path)
    assert names == {"layers-int8": "fake-int8-layers.json"}
    data = json.loads((tmp_path / "fake-int8-layers.json").read_text())
    assert data["not_int8"] == ["model.2.m.0.cv2.conv"] and len(data["layers"]) == 6
    (counts,) = capsys.readouterr().err.splitlines()
    assert counts.startswith("fake int8: ") and "2 reformats" in counts


def counted(types: dict[str, str] | None, *precisions: str) -> dict[str, Any]:
    """What is counted of an engine that tells these types, and int8 of all others."""

    def tell(predictor: Any, file: Path, names: Any) -> dict[str, str]:
        assert (predictor, file) == ("loaded", Path("int8.file"))
        return dict.fromkeys(names, "int8") | (types or {})

    row = fake_engine(types=None if types is None else tell)
    predictors, files = {"int8": "loaded"}, {"int8": Path("int8.file")}
    return layers.count_int8(row, variants_of(*precisions), predictors, files)


def test_integer_convolutions_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    missed = [f"model.4.m.{i}.cv{j}.conv" for i in (0, 1) for j in (1, 2)]
    found = counted(dict.fromkeys(missed[1:3], "fp32"), "fp32", "int8")
    assert found == {"int8": {"planned": 55, "formed": 53, "not_int8": missed[1:3]}}
    counts, warning = capsys.readouterr().err.splitlines()
    assert counts == "fake int8: 53 of 55 int8 convolutions run in integers"
    assert "2 convolutions were to run in int8 and do not: model.4.m.0.cv2.conv, " in warning


def test_nothing_is_counted_where_an_engine_cannot_know(capsys: pytest.CaptureFixture[str]) -> None:
    assert counted(None, "int8") == {}
    assert counted({}, "fp32") == {}
    assert capsys.readouterr().err == ""


def test_a_long_list_of_convolutions_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    variant = variants_of("int8")[0]
    planned = layers.expected_int8(fake_engine(), variant)
    counted(dict.fromkeys(planned, "bf16"), "int8")
    warning = capsys.readouterr().err.splitlines()[-1]
    assert f"{planned[4]}, ..." in warning and planned[5] not in warning


def test_what_is_expected_in_int8() -> None:
    fp32, implicit, int8 = make_variants(
        ("fp32", "int8-implicit", "int8"), {"ptq": source(fp16_layers=("model.2", "model.9*"))}
    )
    placement = int8.source.quantized.placement
    row = building.engine_row("tensorrt")
    assert layers.expected_int8(row, fp32) == []
    floats = set(placement.float_layers)
    assert set(layers.expected_int8(row, int8)) == set(placement.layers) - floats and floats
    named = layers.expected_int8(row, implicit)
    assert not [name for name in named if name.startswith(("model.2.", "model.9."))]
    assert "model.0.conv" in named and "model.24.m.0" in named and "model.3.conv" in named


def row(precision: str, p50: float | None) -> Row:
    latency = None if p50 is None else {"p50": p50}
    return Row(precision, precision, "fake", 0.3, 0.5, latency_ms=latency)


def profile(slow: float) -> Any:
    """A profile in which model.3 takes `slow` ms in int8, and everything else is as fast."""

    def times(file: Path, precision: str, *_: Any) -> list[NodeTime]:
        int8 = precision.startswith("int8")
        return [
            NodeTime("Convolution", "x", ("/net/model.3/conv/Conv",), slow if int8 else 1.0),
            NodeTime("Convolution", "x", ("/net/model.5/conv/Conv",), 0.5 if int8 else 1.0),
            NodeTime("Concat", "x", ("/net/model.12/Concat",), 1.25 if int8 else 1.0),
        ]

    return times


def slow(engine_row: Engine, *rows: Row) -> dict[str, dict[str, Any]]:
    variants = make_variants(PRECISIONS, {"ptq": source()})
    files = {variant.key: Path(variant.key) for variant in variants}
    config = engine.EngineConfig(name="mine", threads=1)
    profiles = layers.Profiles(engine_row, files, config)
    return layers.slow_int8(engine_row, variants, rows, profiles)


@pytest.mark.parametrize(("precision", "own"), [("int8", False), ("int8-implicit", True)])
def test_slow_int8_is_found_with_its_dearest_layers(precision: str, own: bool) -> None:
    rows = row("fp32", 9.0), row("fp16", 5.0), row(precision, 6.0)
    found = slow(fake_engine(profile=profile(3.0), compiler=compiler()), *rows)
    assert list(found) == [precision]
    assert found[precision] == {
        **{"title": precision.upper().replace("-", " ").replace("IMPLICIT", "implicit")},
        **{"engine": "fake", "ms": 6.0, "against": "fp16", "against_ms": 5.0},
        **{"layers": {"model.3.conv": 2.0, "model.12": 0.25}, "own_ranges": own},
    } | ({} if own else {"title": "INT8 PTQ"})


def test_it_is_held_against_the_faster_of_the_float_types() -> None:
    found = slow(fake_engine(), row("fp32", 5.0), row("fp16", 9.0), row("int8", 6.0))["int8"]
    assert (found["against"], found["against_ms"], found["layers"]) == ("fp32", 5.0, {})
    assert slow(fake_engine(), row("fp32", 1.0), row("int8", 1.0))["int8"]["ms"] == 1.0


def test_an_engine_is_profiled_once_however_often_it_is_asked_for() -> None:
    asked: list[str] = []

    def counted(file: Path, precision: str, *_: Any) -> list[NodeTime]:
        asked.append(precision)
        return profile(3.0)(file, precision)

    variants = make_variants(PRECISIONS, {"ptq": source()})
    files = {variant.key: Path(variant.key) for variant in variants}
    config = engine.EngineConfig(name="mine", threads=1)
    profiles = layers.Profiles(fake_engine(profile=counted), files, config)
    int8 = next(variant for variant in variants if variant.key == "int8")
    assert profiles.of(int8) is profiles.of(int8) and profiles.of(int8, "fp16")
    assert asked == ["int8", "fp16"]


def unwanted(*_: Any) -> list[NodeTime]:
    raise AssertionError("nothing is slow: nothing is profiled")


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param([row("fp32", 9.0), row("fp16", 5.0), row("int8", 4.0)], id="fast"),
        pytest.param([row("fp32", 9.0), row("int8", 8.0)], id="no 16 bits"),
        pytest.param([row("fp32", 1.0), row("int8", None)], id="simulated"),
        pytest.param([row("int8", 1.0)], id="int8 alone"),
        pytest.param([row("fp32", 9.0), row("fp16", 5.0)], id="no int8"),
    ],
)
def test_nothing_is_said_of_the_others_and_nothing_profiled(rows: list[Row]) -> None:
    assert slow(fake_engine(profile=unwanted), *rows) == {}


def test_quantized_files_are_opened_by_stage(tiny: TinySet, tmp_path: Path) -> None:
    assert main("ptq", tiny.flags(tmp_path, "--images", "2")) == 0
    result = read_result(tmp_path / "run" / "ptq.json")
    config = engine.EngineConfig(
        weights=str(tiny.weights), data=str(tiny.data), project=str(tmp_path), name="run"
    )
    options = BuildOptions(batch=3)
    [(stage, found)] = engine.open_sources(open_inputs(config), options, [result]).items()  # type: ignore[list-item]
    assert stage == "ptq" and found.options.batch == 3 and found.device == "auto"
    wanted = load_quantized(tmp_path / "run" / "ptq.pt").placement
    assert found.quantized.placement == wanted
