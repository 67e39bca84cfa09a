"""`make engine` as a whole: what is written, and what is not lost where something goes wrong."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny_set import TinySet

from yoloq.__main__ import main
from yoloq.base.errors import EngineError
from yoloq.engines import engine_row
from yoloq.engines.base import Compiler
from yoloq.stages import run as opened
from yoloq.stages.engine import gate, layers
from yoloq.stages.engine import rows as measuring
from yoloq.stages.engine import stage as engine
from yoloq.stages.run import Inputs

pytestmark = pytest.mark.usefixtures("one_thread")


def run(tiny: TinySet, project: Path, *more: str) -> int:
    flags = ("--engine", "onnxruntime", "--runs", "1", "--threads", "1", *more)
    return main("engine", tiny.flags(project, *flags))


@pytest.fixture(scope="module")
def built(tiny: TinySet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with the engines of ONNX Runtime."""
    project = tmp_path_factory.mktemp("runs")
    pytest.importorskip("onnxruntime")
    assert run(tiny, project) == 0
    return project


@pytest.fixture
def project(built: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    shutil.copytree(built / "run", tmp_path / "run")
    return tmp_path


def result(project: Path) -> dict[str, Any]:
    return json.loads((project / "run" / "engine-onnxruntime.json").read_text())


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        pytest.param(["--fp16-layers", "model.99"], "--fp16-layers: pattern 'model.99'", id="fp16"),
        pytest.param(["--ranges", "model.99=1"], "--ranges: pattern 'model.99'", id="range"),
    ],
)
def test_a_slip_in_the_name_of_a_layer_is_found_before_any_stage_runs(
    flags: list[str],
    words: str,
    tiny: TinySet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    the_error: Callable[[], str],
) -> None:
    there = engine_row("tensorrt")
    assert there.compiler is not None
    any_version = replace(there.compiler, check=lambda precisions, given: None)
    row = replace(there, compiler=any_version, precisions=lambda device: ("fp32",))
    monkeypatch.setattr(engine, "get_engine", lambda name, device, run: row)
    assert run(tiny, tmp_path, *flags) == 2
    assert words in the_error()
    assert not (tmp_path / "run").exists()


@pytest.fixture
def inputs(tiny: TinySet, tmp_path: Path) -> Inputs:
    paths = {"weights": str(tiny.weights), "data": str(tiny.data), "project": str(tmp_path)}
    return opened.open_inputs(engine.EngineConfig(**paths, name="run", device="cuda:1"))


def gpu_of(device: str = "auto", packages: Any = None) -> dict[str, Any]:
    return {"versions": {}, "gpu": f"that of {device}"}


def test_the_result_names_the_gpu_of_the_device(
    inputs: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opened, "environment", gpu_of)
    assert inputs.result("x", "key", [], {}).environment["gpu"] == "that of cuda:1"


@pytest.mark.parametrize(
    ("fact", "other"),
    [
        ("environment", lambda device: {"gpu": "another"}),
        ("cpu_model", lambda: "another"),
        ("isa_flags", lambda: ["avx2"]),
        ("affinity", lambda: list(range(99))),
    ],
)
def test_times_of_another_machine_are_not_up_to_date(
    fact: str, other: Any, inputs: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opened, "environment", gpu_of)
    here, accuracy = engine.result_key(inputs, "x", [], ()), inputs.key("ptq")
    assert engine.result_key(inputs, "x", [], ()) == here
    monkeypatch.setattr(opened, fact, other)
    assert engine.result_key(inputs, "x", [], ()) != here
    assert inputs.key("ptq") == accuracy, "that has no times"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        pytest.param(
            ["--streams", "3", "--threads", "2"],
            "--streams 3: must be 0 (one a thread) to 2, the threads of the engine",
            id="more than threads",
        ),
        pytest.param(["--streams", "-1"], "--streams -1: must be 0", id="negative"),
        pytest.param(
            ["--streams", "2", "--threads", "2", "--engine", "torch"],
            "--streams 2: the torch engine runs one image at a time",
            id="not of this engine",
        ),
    ],
)
def test_streams_that_cannot_be_are_refused_before_any_stage_runs(
    flags: list[str], words: str, tiny: TinySet, tmp_path: Path, the_error: Callable[[], str]
) -> None:
    assert run(tiny, tmp_path, *flags) == 2
    assert words in the_error()
    assert not (tmp_path / "run").exists()


def raising(error: Exception) -> Any:
    def report(*_: Any) -> Any:
        raise error

    return report


def test_an_engine_of_any_number_of_images_is_timed_at_the_best_and_at_the_most(
    tiny: TinySet, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Compiler(("batch", "max_batch"), *[lambda *given: None] * 3)
    row = replace(engine_row("onnxruntime"), compiler=told, keeps_graph=True)
    monkeypatch.setattr(engine, "get_engine", lambda name, device, run: row)
    assert run(tiny, project, "--max-batch", "3", "--threads", "2", "--streams", "2") == 0
    found = result(project)
    assert [
        (row["name"], row["precision"], row["latency_ms"]["batch"]) for row in found["rows"]
    ] == [
        ("FP32", "fp32", 1),
        ("INT8 PTQ", "int8", 1),
        ("FP32, batch 3", "fp32", 3),
        ("INT8 PTQ, batch 3", "int8", 3),
    ]
    assert [row["path_ms"] is None for row in found["rows"]] == [False, False, True, True]
    rates = [row["throughput"] for row in found["rows"]]
    assert [rate and (rate["streams"], rate["threads"], rate["images"]) for rate in rates] == [
        *[(2, 2, 16)] * 2,
        *[None] * 2,
    ]
    for row in found["rows"]:
        assert row["fps"] == pytest.approx(
            1e3 * row["latency_ms"]["batch"] / row["latency_ms"]["p50"]
        )
    assert found["artifacts"]["graph-int8"] == "onnxruntime-int8-graph.onnx"
    assert (project / "run" / "onnxruntime-int8-graph.onnx").is_file()


def test_what_the_gate_refuses_is_not_kept(
    tiny: TinySet,
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = project / "run"
    before = {file.name for file in folder.iterdir()} - {"onnxruntime-fp32.onnx"}
    (folder / "onnxruntime-fp32.onnx").unlink()
    (folder / "onnxruntime-int8.onnx").write_bytes(b"earlier")
    with monkeypatch.context() as patch:
        patch.setattr(gate, "check_all", raising(EngineError("its boxes are not those")))
        assert run(tiny, project, "--force") == 2
    assert "its boxes are not those" in capsys.readouterr().err
    assert {file.name for file in folder.iterdir()} == before
    assert (folder / "onnxruntime-int8.onnx").read_bytes() == b"earlier"
    assert run(tiny, project) == 0
    sizes = [row["size_bytes"] for row in result(project)["rows"]]
    names = ["onnxruntime-fp32.onnx", "onnxruntime-int8.onnx"]
    assert sizes == [(folder / name).stat().st_size for name in names]
    assert {file.name for file in folder.iterdir()} == before | set(names)


def test_a_report_that_fails_costs_no_result(
    tiny: TinySet,
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (project / "run" / "engine-onnxruntime.json").unlink()
    unknown = EngineError("its layers cannot be read; use 10.x")
    monkeypatch.setattr(layers, "write_layers", raising(unknown))
    monkeypatch.setattr(layers, "slow_int8", raising(KeyError("model.0.conv")))
    monkeypatch.setattr(measuring, "at_max_batch", raising(EngineError("no memory for 32 images")))
    assert run(tiny, project) == 0
    assert [row["precision"] for row in result(project)["rows"]] == ["fp32", "int8"]
    warnings = [w for w in capsys.readouterr().err.splitlines() if w.startswith("warning: no ")]
    rest = "; the rest of the result stands, --force tries again"
    assert warnings == [
        f"warning: no list of layers: its layers cannot be read; use 10.x{rest}",
        f"warning: no rows of --max-batch: no memory for 32 images{rest}",
        f"warning: no comparison of layers: KeyError: 'model.0.conv'{rest}",
    ]
