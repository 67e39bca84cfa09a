"""The engine `tensorrt-rtx` with the real library, without a GPU; and what it asks of a GPU."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from some_gpu import see_gpu
from tiny_set import TinySet
from trt_rtx import library
from trt_source import source

from yoloq.__main__ import main
from yoloq.base.errors import EngineError
from yoloq.engines import ENGINES, get_engine
from yoloq.engines.options import BuildOptions
from yoloq.engines.source import Graph
from yoloq.engines.tensorrt.inspector import layer_report
from yoloq.engines.tensorrt.layer_log import MATRIX
from yoloq.engines.tensorrt.library import RTX, TENSORRT
from yoloq.engines.tensorrt.manifest import Target, check_fits, read_engine, write_engine
from yoloq.engines.tensorrt.onnx import tensorrt_onnx
from yoloq.engines.tensorrt_rtx import ENGINE, cannot_run, chosen
from yoloq.stages.diagnose.against import read_engine as named

pytestmark = pytest.mark.usefixtures("one_thread")

NEWER = ("8.0", "8.6", "8.9", "12.0", "12.1")  # than Turing


@pytest.fixture(autouse=True)
def installed() -> None:
    library()


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.fixture(scope="module")
def graph() -> Graph:
    library()
    made = source("yolov5")
    return ENGINE.graph(made, "int8")


def flags(tiny: TinySet, project: Path, *more: str) -> list[str]:
    return tiny.flags(project, "--engine", "tensorrt-rtx", "--device", "auto", *more)


def with_options(graph: Graph, **options: object) -> Graph:
    return replace(graph, source=replace(graph.source, options=BuildOptions(**options)))


@pytest.mark.parametrize(
    ("capability", "asked", "wanted"),
    [
        ("", (), NEWER),
        ("", ("7.5", "8.9"), ("7.5", "8.9")),
        ("8.6", (), ("8.6",)),
        ("7.5", (), ("7.5",)),
        ("9.0", (), NEWER),
        ("8.6", ("12.0",), ("12.0",)),
    ],
    ids=["no GPU", "asked for", "the GPU", "Turing", "a GPU that it knows not", "for another"],
)
def test_what_it_builds_for(capability: str, asked, wanted, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    if capability:
        see_gpu(monkeypatch, capability)
    options = BuildOptions(compute=asked)
    assert chosen(options, "auto") == wanted
    assert (cannot_run("auto", options) == "") == (capability in wanted)


def test_a_gpu_that_cannot_run_it_is_named(monkeypatch) -> None:
    see_gpu(monkeypatch, "9.0")
    why = "no GPU to run on (Some GPU has compute capability 9.0, not 8.0 or 8.6 or 8.9 or 12.0"
    assert cannot_run("auto", BuildOptions()).startswith(why)


@pytest.mark.parametrize(
    ("compute", "integers"), [(("8.9",), True), (NEWER, True), (("7.5", "8.9"), False)], ids=str
)
def test_a_file_is_for_its_compute_capabilities(
    compute, integers: bool, graph: Graph, tmp_path: Path, capsys
) -> None:
    made = with_options(graph, compute=compute)
    file = ENGINE.build(made, tmp_path)
    assert file.name == "tensorrt-rtx-int8.engine"
    manifest, plan = read_engine(RTX, file)
    assert (manifest.gpu, tuple(manifest.capabilities)) == ("", compute)
    assert manifest.version == RTX.load().__version__ and len(plan) > 1_000_000
    names = made.source.quantized.placement.layers
    report = layer_report(manifest.built_layers, names)
    assert report.convolutions.keys() == names.keys()
    planned = {name for name, plan in names.items() if plan.quantized}
    kernels = [layer for layer in manifest.built_layers if layer.kind in MATRIX]
    assert {layer.outputs for layer in kernels} == {("fp16",)}, "half of what FP32 would be"
    found = {name for name, kind in report.convolutions.items() if kind == "int8"}
    assert found == (planned if integers else set())
    assert ("the library builds no int8 convolutions" in capsys.readouterr().err) != integers


@pytest.mark.parametrize("options", [{"batch": 2}, {"batch": 2, "max_batch": 4}], ids=str)
def test_several_images(options, tmp_path: Path) -> None:
    made = source("yolov5", **options)
    file = ENGINE.make(made, "fp16", tmp_path)
    manifest, _ = read_engine(RTX, file)
    assert (manifest.batch, manifest.max_batch) == (2, options.get("max_batch", 0))


def test_what_the_parser_refuses_is_explained(graph: Graph, tmp_path: Path) -> None:
    model = tensorrt_onnx(graph.source, "fp32")
    model.graph.node[3].op_type, model.graph.node[3].domain = "Unheard", "someone"
    wanted = r"tensorrt-rtx fp32: TensorRT for RTX 1\.\S+ cannot parse the ONNX graph: .*Unheard"
    with pytest.raises(EngineError, match=wanted) as caught:
        ENGINE.build(Graph(graph.source, "fp32", model), tmp_path)
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())


def test_a_file_fits_a_gpu_of_its_capabilities_and_its_version(
    graph: Graph, tmp_path: Path, monkeypatch
) -> None:
    file = ENGINE.build(with_options(graph, compute=("8.6", "8.9")), tmp_path)
    manifest, plan = read_engine(RTX, file)
    see_gpu(monkeypatch, "8.9")
    check_fits(RTX, file, manifest, RTX.gpu("auto"))
    write_engine(RTX, file, replace(manifest, version="1.2.0.54"), plan)
    with pytest.raises(EngineError, match=r"was built with TensorRT for RTX 1.2.0.54, here is 1"):
        ENGINE.load(file, "int8", "auto", 1)
    see_gpu(monkeypatch, "12.0")
    with pytest.raises(
        EngineError, match=r"for GPUs \(compute capability 8.6, 8.9\), here is Some GPU \(12.0\)"
    ):
        check_fits(RTX, file, manifest, RTX.gpu("auto"))
    with pytest.raises(EngineError, match=r"is no tensorrt engine file .*ENGINE=tensorrt ARGS"):
        read_engine(TENSORRT, file)


def test_a_target_that_is_no_gpu_here_measures_nothing() -> None:
    target = Target(None, ("8.9",))
    assert not target.measures and target.gpu == ""


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--compute", "90"], "--compute 9.0: TensorRT for RTX builds for 7.5, 8.0, 8.6, 8.9, 12."),
        (
            ["--level", "5"],
            "--level: the tensorrt-rtx engine has no such option; it is of tensorrt",
        ),
        (["--device", "cuda"], "--device cuda: "),
        (
            ["--device", "cpu"],
            "--device cpu: the tensorrt-rtx engine runs on an NVIDIA GPU; ",
        ),
        (["--precisions", "int8-implicit"], "tensorrt-rtx runs fp32, fp16, int8 here"),
        (
            ["--streams", "2", "--threads", "2"],
            "--streams 2: the tensorrt-rtx engine runs one image",
        ),
    ],
    ids=["capability", "level", "no GPU", "CPU", "precision", "streams"],
)
@pytest.mark.usefixtures("no_gpu")
def test_mistakes(
    more, words: str, tiny: TinySet, tmp_path: Path, the_error: Callable[[], str]
) -> None:
    assert main("engine", flags(tiny, tmp_path, *more)) == 2
    assert words in the_error()
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("no_gpu")
def test_what_has_to_run_it_says_that_there_is_no_gpu(
    tiny: TinySet, tmp_path: Path, the_error: Callable[[], str]
) -> None:
    for stage in ("search", "swap", "auto"):
        assert main(stage, flags(tiny, tmp_path)) == 2
        line = the_error()
        assert "--engine tensorrt-rtx: no GPU to run on (" in line and "make engine ENGINE=" in line
    assert not (tmp_path / "run").exists()


def test_without_its_package_it_names_the_command(
    tiny: TinySet, tmp_path: Path, monkeypatch, the_error: Callable[[], str]
) -> None:
    for name in RTX.modules:
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main("engine", flags(tiny, tmp_path)) == 2
    line = the_error()
    assert (
        "--engine tensorrt-rtx: its package is not installed; .venv/bin/pip install --no-d" in line
    )
    assert "tensorrt-rtx-cu13-libs==1.7.1.116" in line


def test_it_is_never_what_auto_means() -> None:
    assert "tensorrt-rtx" in ENGINES and ENGINE.by_name_alone


@pytest.mark.usefixtures("no_gpu")
def test_its_name_has_a_hyphen() -> None:
    with pytest.raises(EngineError, match=r"^--engine tensorrt-rtx: no GPU to run on"):
        named("tensorrt-rtx-int8")
    assert get_engine("tensorrt-rtx", run=False).name == "tensorrt-rtx"


@pytest.mark.usefixtures("no_gpu")
def test_without_a_gpu_files_are_built_listed_and_kept(
    tiny: TinySet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = flags(tiny, tmp_path, "--compute", "86,89", "--runs", "1")
    assert main("engine", given) == 0
    told = capsys.readouterr().err
    folder = tmp_path / "run"
    assert "warning: tensorrt-rtx: no GPU to run on (" in told
    assert "INT8 PTQ (tensorrt-rtx): not measured here" in told
    assert "int8 convolutions run in integers" in told
    data = json.loads((folder / "engine-tensorrt-rtx.json").read_text())
    assert [row["name"] for row in data["rows"]] == ["FP32", "FP16", "INT8 PTQ"]
    assert [row["float_type"] for row in data["rows"]] == ["fp32", "fp16", "fp16"]
    assert {(row["map50_95"], row["fps"], row["latency_ms"]) for row in data["rows"]} == {
        (None, None, None)
    }
    assert all(row["size_bytes"] > 1_000_000 for row in data["rows"])
    counts = data["notes"]["int8"]["int8"]
    assert counts["formed"] == counts["planned"] > 50
    for name in data["artifacts"].values():
        assert (folder / name).is_file()
    assert {"int8", "layers-int8", "graph-int8", "onnx-int8"} <= data["artifacts"].keys()
    layers = json.loads((folder / "tensorrt-rtx-int8-layers.json").read_text())["layers"]
    assert len(layers) == 119

    assert main("engine", given) == 0
    assert "engine-tensorrt-rtx.json is up to date" in capsys.readouterr().err
    assert main("report", tiny.flags(tmp_path)) == 0
    lines = (folder / "report.md").read_text().splitlines()
    [line] = [line for line in lines if "INT8 PTQ (not measured here)" in line]
    assert line.startswith("| tensorrt-rtx |") and line.count("| - ") >= 10
    rows = (folder / "report.csv").read_text().splitlines()
    assert sum("not measured here" in row for row in rows) == 3
    assert any(
        line.startswith("- run engine-tensorrt-rtx: ") and "no GPU" in line for line in lines
    )
    assert main("table", [*given, "--of", "ptq"]) == 0
    assert "FP16 (not measured here)" in (folder / "table.md").read_text()
