"""The stages from the command line, on a tiny set: files, reuse, and every mistake of a user."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tiny_quant import tiny_model
from tiny_set import TinySet, make_tiny_set

from yoloq.__main__ import main as run
from yoloq.base.config import parse
from yoloq.base.errors import UserError
from yoloq.engines import engine_row
from yoloq.measure.bootstrap import interval
from yoloq.measure.record import Records
from yoloq.quant import ptq as passes
from yoloq.quant.policy import resolve
from yoloq.quant.quantized import load_quantized
from yoloq.quant.trace import trace
from yoloq.stages import run as opened
from yoloq.stages.auto import stage as auto
from yoloq.stages.demo import stage as demo
from yoloq.stages.engine import stage as engine
from yoloq.stages.ptq import stage as ptq
from yoloq.stages.run import as_config
from yoloq.stages.sensitivity import stage as sensitivity

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def finished_run(tiny: TinySet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose run went through all stages, started at the last one that measures."""
    project = tmp_path_factory.mktemp("runs")
    assert run("engine", tiny.flags(project, "--engine", "openvino", "--runs", "2")) == 0
    return project


def read(project: Path, stage: str) -> dict[str, Any]:
    return json.loads((project / "run" / f"{stage}.json").read_text())


def test_a_stage_runs_what_it_needs_first(finished_run: Path) -> None:
    files = {file.name for file in (finished_run / "run").iterdir()}
    assert {"baseline.json", "baseline.npz", "ptq.pt", "ptq.json", "statistics.npz"} <= files
    assert {"model-fp32.onnx", "model-int8.onnx", "openvino-int8.xml"} <= files
    assert not [name for name in files if name.startswith(".")]


def test_each_row_leaves_a_record_that_agrees_with_it(finished_run: Path) -> None:
    for stage in ("baseline", "ptq", "engine-openvino"):
        result = read(finished_run, stage)
        records = Records.load(finished_run / "run" / result["artifacts"]["record"])
        assert records is not None and len(records.files) == 6
        assert list(records.rows) == [row["precision"] for row in result["rows"]]
        for row in result["rows"]:
            record = records.rows[row["precision"]]
            assert record.precision.shape == (1001,)
            assert record.precision[0] == pytest.approx(row["map50_95"], abs=1e-9)
            assert record.found.images == 6 and (record.found.scores >= 0.1).all()


def test_the_interval_of_a_row_is_that_of_the_records(finished_run: Path) -> None:
    """So that two runs can be compared as int8 is with FP32 within one."""
    folder = finished_run / "run"
    ours, theirs = (Records.load(folder / f"{n}-record.npz") for n in ("baseline", "ptq"))
    assert ours is not None and theirs is not None
    found = interval(ours.rows["fp32"].precision, theirs.rows["int8"].precision)
    row = read(finished_run, "ptq")["rows"][0]
    assert [found.low, found.high] == pytest.approx(row["delta_ci95"])


def test_stages_note_where_each_layer_runs(finished_run: Path) -> None:
    planned = read(finished_run, "ptq")["notes"]["layers"]
    built = read(finished_run, "engine-openvino")["notes"]["layers"]["int8"]["layers"]
    assert [item["layer"] for item in planned] == [item["layer"] for item in built]
    assert len(planned) == 60 and not planned[-1]["int8"]
    assert {item["type"] for item in built if item["scale"]} == {"int8"}
    assert [item["scale"] for item in built] == [item["scale"] for item in planned]


def test_results_state_what_they_depend_on(finished_run: Path) -> None:
    result = read(finished_run, "engine-openvino")
    assert result["schema"] == 1
    assert result["data"]["images"] == 6
    row = result["rows"][-1]
    assert row["precision"] == "int8"
    assert "model.24.m.0" in row["float_layers"]
    assert row["latency_ms"]["threads"] >= 1 and row["latency_ms"]["warmup"] >= 1
    assert row["latency_ms"]["affinity"] and row["latency_ms"]["batch"] == 1
    assert row["delta_ci95"][0] <= row["delta"] <= row["delta_ci95"][1]
    assert 0.3 < row["fidelity"] <= 1


def test_fp32_engine_finds_what_torch_finds(finished_run: Path) -> None:
    row = read(finished_run, "engine-openvino")["rows"][0]
    assert row["precision"] == "fp32"
    assert row["fidelity"] > 0.99


def test_simulated_int8_claims_no_speed(finished_run: Path) -> None:
    row = read(finished_run, "ptq")["rows"][0]
    assert row["simulated"] and row["latency_ms"] is None and row["fps"] is None


def test_a_finished_stage_is_reused_and_force_redoes_it(
    finished_run: Path, tiny: TinySet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a copy: other tests read what was built on the first result."""
    shutil.copytree(finished_run / "run", tmp_path / "run")
    file = tmp_path / "run" / "ptq.json"
    before = file.stat().st_mtime_ns
    assert run("ptq", tiny.flags(tmp_path)) == 0
    assert "up to date" in capsys.readouterr().err
    assert file.stat().st_mtime_ns == before
    assert run("ptq", tiny.flags(tmp_path, "--force")) == 0
    assert file.stat().st_mtime_ns > before


def test_another_machine_times_anew_and_calibrates_nothing_anew(
    finished_run: Path,
    tiny: TinySet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(finished_run / "run", tmp_path / "run")
    monkeypatch.setattr(opened, "cpu_model", lambda: "another")
    for stage, reused in (("baseline", False), ("ptq", True)):
        capsys.readouterr()
        assert run(stage, tiny.flags(tmp_path)) == 0
        assert (f"{stage}.json is up to date" in capsys.readouterr().err) is reused


def test_changed_labels_make_a_stage_run_again(
    tiny: TinySet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = make_tiny_set(tmp_path / "set", images=2)
    assert run("baseline", own.flags(tmp_path)) == 0
    (tmp_path / "set" / "labels" / "val" / "0.txt").write_text("1 0.5 0.5 0.2 0.2\n")
    capsys.readouterr()
    assert run("baseline", own.flags(tmp_path)) == 0
    assert "up to date" not in capsys.readouterr().err


def test_statistics_are_reused_by_another_calibrator(
    tiny: TinySet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("ptq", tiny.flags(tmp_path, "--images", "3")) == 0
    usual = load_quantized(tmp_path / "run" / "ptq.pt").model.net
    assert run("ptq", tiny.flags(tmp_path, "--images", "3", "--calibrator", "max")) == 0
    assert "holds the statistics of these 3 images" in capsys.readouterr().err
    largest = load_quantized(tmp_path / "run" / "ptq.pt").model.net
    name = "model.2.cv1.conv.input_quantizer"
    assert usual.get_submodule(name).amax <= largest.get_submodule(name).amax


def test_calibration_images_come_from_train(
    tiny: TinySet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Path] = []
    real = passes.share_of_batches

    def watch(images, *rest, **share):
        seen.extend(images)
        return real(images, *rest, **share)

    monkeypatch.setattr(passes, "share_of_batches", watch)
    assert run("ptq", tiny.flags(tmp_path, "--images", "4")) == 0
    assert len(set(seen)) == 4, "read for the statistics, and for their influence"
    assert {file.parent.name for file in seen} == {"train"}


def test_a_policy_file_replaces_the_flags(tiny: TinySet, tmp_path: Path) -> None:
    side = {"bits": 8, "granularity": "tensor", "symmetric": True}
    rules = [{"pattern": "model.3", "weight": side | {"narrow": True}, "activation": side}]
    (tmp_path / "policy.json").write_text(json.dumps({"rules": rules}))
    assert run("ptq", tiny.flags(tmp_path, "--policy", str(tmp_path / "policy.json"))) == 0
    floats = read(tmp_path, "ptq")["rows"][0]["float_layers"]
    assert "model.3.conv" not in floats and "model.5.conv" in floats


@pytest.mark.parametrize(
    ("flags", "sharing", "residual"),
    [
        pytest.param(["--engine", "openvino"], "siblings", "none", id="openvino"),
        pytest.param(["--engine", "torch"], "siblings", "none", id="torch"),
        pytest.param(["--engine", "tensorrt"], "concat", "input", id="tensorrt, not installed"),
        pytest.param(
            ["--engine", "tensorrt", "--sharing", "siblings"], "siblings", "input", id="one flag"
        ),
        pytest.param(
            ["--engine", "openvino", "--sharing", "concat", "--residual", "both"],
            *("concat", "both"),
            id="both flags",
        ),
    ],
)
def test_placement_is_that_of_the_engine_unless_flags_say_otherwise(
    flags: list[str], sharing: str, residual: str
) -> None:
    policy = ptq.policy_of_flags(parse(ptq.PtqConfig, flags), tiny_model())
    assert (policy.sharing, policy.residual) == (sharing, residual)


@pytest.mark.parametrize(
    ("flags", "first", "symmetric", "image"),
    [
        pytest.param(["--engine", "onnxruntime"], 0, False, False, id="onnxruntime"),
        pytest.param(["--engine", "torch"], 2, False, None, id="torch"),
        pytest.param(["--engine", "tensorrt"], 2, True, None, id="tensorrt"),
        pytest.param(["--engine", "tensorrt", "--float-first", "0"], 0, True, True, id="no bytes"),
        pytest.param(["--engine", "onnxruntime", "--symmetric"], 0, True, False, id="image exact"),
        pytest.param(
            ["--engine", "onnxruntime", "--float-first", "1", "--no-symmetric"],
            *(1, False, None),
            id="one float",
        ),
    ],
)
def test_ranges_and_first_layers_are_those_of_the_engine_too(
    flags: list[str], first: int, symmetric: bool, image: bool | None
) -> None:
    """`image` is whether the first convolution's input is symmetric; None: it is in float."""
    model = tiny_model()
    placement = resolve(ptq.policy_of_flags(parse(ptq.PtqConfig, flags), model), trace(model.net))
    blocks = {name.split(".")[1] for name in placement.float_layers}
    assert blocks == {"24", *map(str, range(first))}
    inner, reader = placement.layers["model.3.conv"], placement.layers["model.0.conv"]
    assert inner.activation is not None and inner.activation.symmetric == symmetric
    assert (reader.activation and reader.activation.symmetric) == image


@pytest.mark.parametrize("value", ["-1", "two", "1.5"])
def test_float_first_is_a_number_or_auto(value: str, tiny: TinySet, tmp_path, the_error) -> None:
    assert run("ptq", tiny.flags(tmp_path, "--float-first", value)) == 2
    assert f"--float-first {value}: must be auto, or 0 or more" in the_error()


def test_ptq_runs_again_for_another_engine_only_where_the_placement_differs(
    tiny: TinySet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("ptq", tiny.flags(tmp_path, "--engine", "openvino")) == 0
    reused = {}
    for name in ("onnxruntime", "tensorrt"):
        capsys.readouterr()
        assert run("ptq", tiny.flags(tmp_path, "--engine", name)) == 0
        reused[name] = "up to date" in capsys.readouterr().err
    assert reused == {"onnxruntime": True, "tensorrt": False}
    assert read(tmp_path, "ptq")["notes"]["policy"]["sharing"] == "concat"


@pytest.mark.parametrize(
    ("name", "stage"), [("engine", engine), ("sensitivity", sensitivity)], ids=["engine", "sweep"]
)
def test_a_stage_that_runs_ptq_first_names_its_engine(
    name: str, stage: Any, tiny: TinySet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    seen: list[ptq.PtqConfig] = []

    def stop(options: ptq.PtqConfig) -> None:
        seen.append(options)
        raise UserError("enough")

    monkeypatch.setattr(stage, "run_ptq", stop)
    flags = tiny.flags(tmp_path, "--engine", "onnxruntime")
    assert run(name, flags) == 2
    assert [options.engine for options in seen] == ["onnxruntime"]
    assert "default options and --engine onnxruntime" in capsys.readouterr().err


def test_auto_and_the_demo_name_their_engine_to_ptq() -> None:
    assert as_config(auto.AutoConfig(engine="tensorrt"), ptq.PtqConfig).engine == "tensorrt"
    assert {engine_row(name).defaults().sharing for name in demo.ENGINES} == {"siblings"}


def test_unreadable_images_are_left_out_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = make_tiny_set(tmp_path / "set", images=3)
    (tmp_path / "set" / "images" / "val" / "1.png").write_bytes(b"")
    assert run("engine", own.flags(tmp_path, "--engine", "openvino", "--runs", "1")) == 0
    for stage in ("baseline", "engine-openvino"):
        assert read(tmp_path, stage)["data"]["images"] == 2
    assert len(read(tmp_path, "baseline")["notes"]["skipped"]) == 1
    assert capsys.readouterr().err.count("1.png") == 1


def test_bad_labels_are_reported_once_a_file_skipped_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = make_tiny_set(tmp_path / "set", images=2)
    label = tmp_path / "set" / "labels" / "val" / "0.txt"
    label.write_text(label.read_text() + "0 0.5 0.5\n0 nan 0.5 0.1 0.1\n0 1.5 0.5 0.1 0.1\n")
    assert run("ptq", own.flags(tmp_path)) == 0
    assert capsys.readouterr().err.count("0.txt: 3 labels skipped (row 2: 3 columns") == 1
    assert read(tmp_path, "baseline")["notes"]["bad_labels"] == 3
    assert run("report", own.flags(tmp_path)) == 0
    assert "3 bad labels left out" in (tmp_path / "run" / "report.md").read_text()


def test_calibration_leaves_out_what_is_measured_on(
    tiny: TinySet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both = other_yaml(tiny, tmp_path, "train: images/train", "train: [images/train, images/val]")
    assert run("ptq", tiny.flags(tmp_path, "--data", both)) == 0
    errors = capsys.readouterr().err
    assert "6 images of `train` are in `val` too: left out" in errors
    assert "calibrate: 6 images" in errors


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


@pytest.mark.parametrize("harm", [cut, Path.unlink], ids=["cut", "gone"])
@pytest.mark.parametrize(
    ("name", "again"),
    [
        ("baseline.json", "baseline"),
        ("baseline.npz", "baseline"),
        ("ptq.json", "ptq"),
        ("ptq.pt", "ptq"),
        ("engine-openvino.json", "engine-openvino"),
        ("openvino-int8.bin", "engine-openvino"),
    ],
)
def test_a_damaged_file_is_made_again(
    name: str, again: str, harm: Any, finished_run: Path, tiny: TinySet, tmp_path: Path
) -> None:
    shutil.copytree(finished_run / "run", tmp_path / "run")
    harm(tmp_path / "run" / name)
    flags = ("--engine", "openvino", "--runs", "2")
    assert run("engine", tiny.flags(tmp_path, *flags)) == 0
    for stage in ("baseline", "ptq", "engine-openvino"):
        file = Path("run", f"{stage}.json")
        made = (tmp_path / file).read_text() != (finished_run / file).read_text()
        assert made == (stage == again)


def test_a_quantized_model_of_another_run_is_not_taken(
    finished_run: Path, tiny: TinySet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(finished_run / "run", tmp_path / "run")
    shutil.copy(tiny.weights, tmp_path / "run" / "ptq.pt")
    assert run("engine", tiny.flags(tmp_path, "--engine", "openvino", "--runs", "2")) == 0
    assert "ptq.pt is missing or was changed: running ptq first" in capsys.readouterr().err
    load_quantized(tmp_path / "run" / "ptq.pt")


def test_a_report_leaves_out_engines_of_an_older_calibration(
    finished_run: Path, tiny: TinySet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(finished_run / "run", tmp_path / "run")
    assert run("ptq", tiny.flags(tmp_path, "--calibrator", "max")) == 0
    assert run("report", tiny.flags(tmp_path)) == 0
    assert "engine-openvino.json is of other weights, data or calibr" in capsys.readouterr().err
    assert "| openvino | INT8" not in (tmp_path / "run" / "report.md").read_text()


def pointer(tmp_path: Path) -> list[str]:
    file = tmp_path / "policy.json"
    file.write_text("version https://git-lfs.github.com/spec/v1\n")
    return ["--policy", str(file)]


def policy(tmp_path: Path, rules: Any) -> list[str]:
    file = tmp_path / "policy.json"
    file.write_text(json.dumps({"rules": rules}))
    return ["--policy", str(file)]


def damaged(tmp_path: Path, content: bytes) -> str:
    file = tmp_path / "damaged.pt"
    file.write_bytes(content)
    return str(file)


def other_yaml(tiny: TinySet, tmp_path: Path, old: str, new: str) -> str:
    file = tmp_path / "other.yaml"
    file.write_text(tiny.data.read_text().replace(old, new))
    return str(file)


MISTAKES = {
    "no-checkpoint": ("ptq", lambda t, p: ["--weights", str(p / "none.pt")], "none.pt"),
    "empty-checkpoint": ("ptq", lambda t, p: ["--weights", damaged(p, b"")], "damaged.pt"),
    "text-checkpoint": ("ptq", lambda t, p: ["--weights", damaged(p, b"hello")], "damaged.pt"),
    "cut-checkpoint": (
        "baseline",
        lambda t, p: ["--weights", damaged(p, t.weights.read_bytes()[:2000])],
        "damaged.pt",
    ),
    "device-checkpoint": ("ptq", lambda t, p: ["--weights", "/dev/null"], "/dev/null: not a file"),
    "no-yaml": ("ptq", lambda t, p: ["--data", str(p / "none.yaml")], "none.yaml"),
    "no-val": ("ptq", lambda t, p: ["--data", other_yaml(t, p, "val:", "other:")], "val"),
    "no-folder": (
        "ptq",
        lambda t, p: ["--data", other_yaml(t, p, "images/val", "images/gone")],
        "gone",
    ),
    "few-names": (
        "baseline",
        lambda t, p: ["--data", other_yaml(t, p, "['dark', 'bright']", "['dark']")],
        "class",
    ),
    "imgsz": ("baseline", lambda t, p: ["--imgsz", "100"], "--imgsz 100"),
    "imgsz-in-yaml": (
        "baseline",
        lambda t, p: ["--data", other_yaml(t, p, "imgsz: 64", "imgsz: 100")],
        "other.yaml: imgsz 100",
    ),
    "no-train": (
        "ptq",
        lambda t, p: ["--data", other_yaml(t, p, "train:", "other:")],
        "other.yaml: has no `train`",
    ),
    "train-is-val": (
        "ptq",
        lambda t, p: ["--data", other_yaml(t, p, "images/train", "images/val")],
        "every image of `train` is in `val`",
    ),
    "no-images": ("ptq", lambda t, p: ["--images", "0"], "--images 0"),
    "pattern": (
        "ptq",
        lambda t, p: ["--keep-float", "model.99"],
        "--keep-float: pattern 'model.99'",
    ),
    "all-float": ("ptq", lambda t, p: ["--keep-float", "*"], "--keep-float: leaves every"),
    "all-first": ("ptq", lambda t, p: ["--float-first", "99"], "--float-first 99: leaves every"),
    "policy-rules": ("ptq", lambda t, p: policy(p, 5), "policy.json: not a policy"),
    "policy-pattern": (
        "ptq",
        lambda t, p: policy(p, [{"pattern": 5, "weight": None, "activation": None}]),
        "policy.json: not a policy (ValueError: pattern 5",
    ),
    "policy-spec": (
        "ptq",
        lambda t, p: policy(p, [{"pattern": "*", "weight": {"granularity": 3}, "activation": {}}]),
        "policy.json: not a policy (ValueError: granularity 3",
    ),
    "policy-flag": (
        "ptq",
        lambda t, p: policy(p, [{"pattern": "*", "weight": {}, "activation": {"symmetric": "no"}}]),
        "policy.json: not a policy (ValueError: symmetric",
    ),
    "policy-pointer": ("ptq", lambda t, p: pointer(p), "policy.json: is a Git LFS pointer"),
    "no-policy": ("ptq", lambda t, p: ["--policy", str(p / "none.json")], "none.json"),
    "engine": ("engine", lambda t, p: ["--engine", "abacus"], "abacus"),
    "precision": (
        "engine",
        lambda t, p: ["--engine", "onnxruntime", "--precisions", "fp8"],
        "--precisions fp8",
    ),
    "cuda": ("baseline", lambda t, p: ["--device", "cuda:77"], "cuda:77"),
    "device": ("baseline", lambda t, p: ["--device", "toaster"], "toaster"),
    "cpu-engine": ("engine", lambda t, p: ["--engine", "openvino", "--device", "cuda"], "cuda"),
    "no-results": ("report", lambda t, p: ["--name", "nothing"], "nothing"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_one_line_and_exit_code_2(
    case: str, tiny: TinySet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stage, flags, named = MISTAKES[case]
    project = tmp_path / "runs"
    assert run(stage, tiny.flags(project, *flags(tiny, tmp_path))) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert named in errors[0]
    assert not [*project.rglob("*.*")], "a stage ran before the mistake was found"


def test_an_engine_without_its_package_says_what_to_install(
    tiny: TinySet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert run("engine", tiny.flags(tmp_path, "--engine", "openvino")) == 2
    assert "pip install openvino" in capsys.readouterr().err


def test_nothing_is_left_when_a_stage_is_interrupted(
    tiny: TinySet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ptq, "simulated_int8", interrupt)
    assert run("ptq", tiny.flags(tmp_path)) == 130
    assert not (tmp_path / "run" / "ptq.json").exists()


def test_two_engines_share_a_run_folder(finished_run: Path, tiny: TinySet) -> None:
    flags = tiny.flags(finished_run, "--engine", "onnxruntime", "--runs", "2")
    assert run("engine", flags) == 0
    assert run("report", tiny.flags(finished_run)) == 0
    text = (finished_run / "run" / "report.md").read_text()
    assert (
        text.count("| openvino | ") >= 3 and text.count("\n| onnxruntime | ") == 3
    )  # and versions


def test_a_run_folder_can_be_moved(
    finished_run: Path, tiny: TinySet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every stage takes what it finds there, and nothing of it names the old place."""
    shutil.copytree(finished_run / "run", tmp_path / "run")
    capsys.readouterr()
    for stage, *flags in (["baseline"], ["ptq"], ["engine", "--engine", "openvino", "--runs", "2"]):
        assert run(stage, tiny.flags(tmp_path, *flags)) == 0
        assert "is up to date" in capsys.readouterr().err
    assert run("report", tiny.flags(tmp_path)) == 0
    assert str(finished_run) not in (tmp_path / "run" / "report.md").read_text()
