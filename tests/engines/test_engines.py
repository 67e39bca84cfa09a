"""The contract that every row of the table of engines keeps, on every family of models."""

import importlib.util
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from engine_source import IMAGES, source
from engine_wheels import PLACES, need
from numpy.typing import NDArray
from rounding import APART, CHANCE, again
from tiny_quant import NAMES, as_input, signal_to_noise
from trt_rtx import library

from yoloq.base.errors import EngineError, PolicyError
from yoloq.base.machine import has_gpu
from yoloq.engines import ENGINES, engine_row, get_engine
from yoloq.engines.base import engine_files
from yoloq.engines.predictor import ModelInfo, Predictor
from yoloq.engines.source import Source
from yoloq.measure.image_path import ImagePath
from yoloq.models import FAMILIES
from yoloq.quant.policy import Policy, Rule
from yoloq.quant.spec import ACTIVATION, WEIGHT, QuantSpec

pytestmark = pytest.mark.usefixtures("one_thread")


def torch_outputs(net: torch.nn.Module) -> list[NDArray[np.float32]]:
    with torch.inference_mode():
        return [raw.numpy() for raw in net(as_input(IMAGES))]


@pytest.fixture(scope="module", params=FAMILIES)
def family_source(request: pytest.FixtureRequest) -> Source:
    return source(request.param)


@pytest.fixture(scope="module", params=ENGINES)
def engine_name(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if name == "tensorrt-rtx":
        library()
    if name in PLACES:
        need(name)
    if not engine_row(name).is_installed:
        pytest.skip(f"the package of {name} is not installed")
    return name


@pytest.fixture(scope="module")
def device(engine_name: str) -> str:
    """Where the contract is tested: the CPU where the engine runs there, else the first GPU.

    One that builds for GPUs that are not here is tested without, as far as that goes.
    """
    if "cpu" in engine_row(engine_name).devices:
        return "cpu"
    if has_gpu():
        return "cuda"
    if not engine_row(engine_name).cannot_run("auto"):
        pytest.skip(f"{engine_name} builds and runs on an NVIDIA GPU alone, and there is none")
    return "auto"


@pytest.fixture(scope="module")
def files(
    engine_name: str, device: str, family_source: Source, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """Every precision, built."""
    engine = get_engine(engine_name, run=False)
    folder = tmp_path_factory.mktemp(engine_name)
    files = {p: engine.make(family_source, p, folder) for p in engine.precisions(device)}
    assert not [item for item in folder.iterdir() if item.name.startswith((".", "tmp"))]
    for file in files.values():
        assert sum(part.stat().st_size for part in engine_files(file)) > 100_000
    return files


@pytest.fixture(scope="module")
def predictors(engine_name: str, device: str, files: dict[str, Path]) -> dict[str, Predictor]:
    """Every precision, loaded."""
    engine = get_engine(engine_name, run=False)
    if why := engine.cannot_run(device):
        pytest.skip(f"{engine_name}: {why}")
    return {p: engine.load(file, p, device, 1) for p, file in files.items()}


def test_precisions_begin_with_fp32_and_have_int8(engine_name: str, device: str) -> None:
    precisions = get_engine(engine_name, run=False).precisions(device)
    assert precisions[0] == "fp32"
    assert "int8" in precisions
    assert set(precisions) <= {"fp32", "fp16", "bf16", "int8", "int8-implicit"}


def test_what_an_image_needs_travels_with_the_engine(
    predictors: dict[str, Predictor], family_source: Source
) -> None:
    for predictor in predictors.values():
        assert predictor.model == family_source.info
        assert predictor.model.names == NAMES
        assert predictor.float_type in {"fp32", "fp16", "bf16"}


def test_raw_maps_have_the_shapes_of_the_head(
    predictors: dict[str, Predictor], family_source: Source
) -> None:
    wanted = [raw.shape for raw in torch_outputs(family_source.model.net)]
    for predictor in predictors.values():
        raws = predictor(IMAGES)
        assert [raw.shape for raw in raws] == wanted
        assert {raw.dtype for raw in raws} == {np.dtype(np.float32)}


def test_fp32_agrees_with_torch(predictors: dict[str, Predictor], family_source: Source) -> None:
    for found, wanted in zip(
        predictors["fp32"](IMAGES), torch_outputs(family_source.model.net), strict=True
    ):
        assert np.abs(found - wanted).max() <= 1e-4 * np.abs(wanted).max()


def test_16_bit_precisions_agree_with_torch(
    predictors: dict[str, Predictor], family_source: Source
) -> None:
    wanted = torch_outputs(family_source.model.net)
    for precision in predictors.keys() & {"bf16", "fp16"}:
        # a bfloat16 has 8 bits of mantissa: 1/512 or 54 dB an operation, and there are hundreds
        assert signal_to_noise(wanted, predictors[precision](IMAGES)) >= 25


def test_int8_agrees_with_what_torch_simulates(
    engine_name: str, predictors: dict[str, Predictor], family_source: Source
) -> None:
    exact = torch_outputs(family_source.model.net)
    simulated = torch_outputs(family_source.quantized.model.net)
    found = predictors["int8"](IMAGES)
    loss = signal_to_noise(exact, simulated)
    assert loss > 18
    assert signal_to_noise(exact, found) >= loss - again(engine_name) - CHANCE
    assert signal_to_noise(simulated, found) >= loss - again(engine_name) - APART - CHANCE


def test_batch_equals_single_images(predictors: dict[str, Predictor]) -> None:
    for precision, predictor in predictors.items():
        batch = predictor(IMAGES)
        singles = [predictor(IMAGES[i : i + 1]) for i in range(len(IMAGES))]
        for level, found in enumerate(batch):
            wanted = np.concatenate([raws[level] for raws in singles])
            # torch picks other kernels for other batches; one rounding may then go the other way
            tolerance = 1e-5 if precision == "fp32" else 0.1
            assert np.abs(found - wanted).max() <= tolerance * np.abs(wanted).max()


def test_results_outlive_the_next_call(predictors: dict[str, Predictor]) -> None:
    for predictor in predictors.values():
        first = predictor(IMAGES[:1])
        kept = [raw.copy() for raw in first]
        predictor(IMAGES[1:2])
        assert all(map(np.array_equal, first, kept))


def test_eight_threads_that_share_one_get_what_one_gets(predictors: dict[str, Predictor]) -> None:
    order = [index % 4 for index in range(64)]
    for precision, predictor in predictors.items():
        alone = [predictor(IMAGES[index : index + 1]) for index in range(4)]
        with ThreadPoolExecutor(8) as threads:
            shared = list(threads.map(lambda i, run=predictor: run(IMAGES[i : i + 1]), order))
        for index, found in zip(order, shared, strict=True):
            assert all(map(np.array_equal, found, alone[index])), precision


def test_several_images_at_once_have_the_boxes_of_each_alone(
    engine_name: str,
    device: str,
    predictors: dict[str, Predictor],
    files: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine, pictures = get_engine(engine_name), list(IMAGES) * 2
    count = 2 if engine.streams else 1
    for precision, predictor in predictors.items():
        streams = engine.load_streams(files[precision], precision, device, 2, count)
        assert len(streams) == count
        assert {each.model for each in streams} == {predictor.model}
        assert {each.float_type for each in streams} == {predictor.float_type}
        for each in {predictor, *streams}:  # random weights are sure of nothing
            monkeypatch.setattr(each, "model", replace(each.model, conf=0.01))
        alone = [ImagePath([predictor])(picture) for picture in pictures]
        together = ImagePath(streams).all(pictures)
        assert sum(len(found.scores) for found in alone)
        for one, other in zip(alone, together, strict=True):
            for name in ("boxes", "scores", "classes"):
                assert np.array_equal(getattr(one, name), getattr(other, name)), (precision, name)


def test_what_cannot_run_here_says_what_it_is_and_refuses(
    engine_name: str, device: str, files: dict[str, Path], family_source: Source
) -> None:
    engine = get_engine(engine_name, run=False)
    if not (why := engine.cannot_run(device)):
        pytest.skip(f"{engine_name} runs here")
    with pytest.raises(EngineError, match=f"^--engine {engine_name}: no GPU to run on .*make eng"):
        get_engine(engine_name)
    for precision, file in files.items():
        with pytest.raises(EngineError, match=f"{file.name}: no GPU to run on") as caught:
            engine.load(file, precision, device, 1)
        assert "\n" not in str(caught.value)
        built = engine.unloaded(file, why)
        assert built.model == family_source.info
        assert built.float_type == ("fp32" if precision == "fp32" else "fp16")
        with pytest.raises(EngineError, match="no GPU to run on"):
            built(IMAGES)
        plans = family_source.quantized.placement.layers
        assert engine.types is not None
        types = engine.types(built, file, plans)
        planned = {name for name, plan in plans.items() if plan.quantized and precision == "int8"}
        assert {name for name, kind in types.items() if kind == "int8"} == planned
        assert types.keys() == plans.keys()


@pytest.mark.parametrize("name", ENGINES)
def test_an_engine_without_streams_says_so(name: str) -> None:
    engine = engine_row(name)
    for count in (0, 1):
        engine.check_streams(count)
    if engine.streams is None:
        with pytest.raises(EngineError, match=f"^--streams 2: the {name} engine runs one image"):
            engine.check_streams(2)
    else:
        engine.check_streams(2)


@pytest.mark.parametrize("engine_name", ["openvino", "onnxruntime"])
@pytest.mark.parametrize("old", [False, True], ids=["nothing there", "an engine there"])
def test_failed_build_leaves_nothing_half_written(
    engine_name: str, old: bool, tmp_path: Path
) -> None:
    pytest.importorskip(engine_name)
    engine = get_engine(engine_name)
    if old:
        engine.make(source("yolov5"), "int8", tmp_path)
    before = {item.name: item.read_bytes() for item in tmp_path.iterdir()}
    rules = (Rule("*", WEIGHT, ACTIVATION), Rule("model.3", WEIGHT, QuantSpec(bits=4)))
    with pytest.raises(PolicyError, match="4 bits"):
        engine.build(engine.graph(source("yolov5", policy=Policy(rules)), "int8"), tmp_path)
    assert {item.name: item.read_bytes() for item in tmp_path.iterdir()} == before


def test_openvino_pair_is_whole_or_absent(tmp_path: Path, monkeypatch) -> None:
    openvino = pytest.importorskip("openvino")

    def fail(model, file, **options):
        Path(file).with_suffix(".bin").write_bytes(b"half")
        raise RuntimeError("no space left")

    monkeypatch.setattr(openvino, "save_model", fail)
    with pytest.raises(RuntimeError, match="no space left"):
        get_engine("openvino").make(source("yolov5"), "fp32", tmp_path)
    assert not list(tmp_path.iterdir())


def test_float_types(predictors: dict[str, Predictor]) -> None:
    for precision, predictor in predictors.items():
        if not precision.startswith("int8"):
            assert predictor.float_type == precision


def test_int8_of_torch_is_called_simulated() -> None:
    assert {name for name in ENGINES if engine_row(name).simulated} == {"torch"}


@pytest.mark.parametrize(
    ("installed", "gpu", "wanted"),
    [
        (("torch", "openvino", "onnxruntime"), False, "openvino"),
        (("torch", "onnxruntime"), False, "onnxruntime"),
        (("torch", "tensorrt"), False, "torch"),
        (("torch", "openvino", "tensorrt"), True, "tensorrt"),
        (("torch", "openvino"), True, "openvino"),
        (("torch", "tensorrt_rtx_libs", "tensorrt_rtx_bindings"), True, "torch"),
    ],
    ids=[
        *("all of the CPU's", "no openvino", "tensorrt without a GPU", "tensorrt", "GPU alone"),
        "by its name alone",
    ],
)
def test_auto_is_the_fastest_that_is_installed(installed, gpu, wanted, monkeypatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name in installed or None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    assert get_engine("auto").name == wanted


def test_unknown_engine_lists_the_known_ones() -> None:
    with pytest.raises(EngineError, match=r"--engine tflite: not one of auto, openvino"):
        get_engine("tflite")


def test_missing_package_says_what_to_install(monkeypatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EngineError, match=r"openvino: .*not installed; .venv/bin/pip install o"):
        get_engine("openvino")


@pytest.mark.parametrize("device", ["cuda:99", "tpu", "mps"])
def test_device_that_is_not_there(engine_name: str, device: str) -> None:
    with pytest.raises(EngineError, match=f"--device {device}") as caught:
        get_engine(engine_name, device, run=False).precisions(device)
    assert "\n" not in str(caught.value)


def test_model_info_survives_json(family_source: Source) -> None:
    info = family_source.info
    assert ModelInfo.from_json(info.to_json()) == info


@pytest.mark.parametrize(
    ("machine", "flags", "unsigned"),
    [
        ("x86_64", ["avx2", "avx512_vnni"], True),
        ("AMD64", [], True),
        ("x86_64", ["avx512_vnni", "amx_int8"], False),
        ("aarch64", [], False),
    ],
    ids=["AVX-512", "flags unknown", "AMX", "Arm"],
)
def test_openvino_reads_the_integers_that_it_computes_in(
    machine: str, flags: list[str], unsigned: bool, tmp_path: Path, monkeypatch
) -> None:
    openvino = pytest.importorskip("openvino")
    engine = pytest.importorskip("yoloq.engines.openvino")
    monkeypatch.setattr("yoloq.base.machine.platform.machine", lambda: machine)
    monkeypatch.setattr("yoloq.base.machine.isa_flags", lambda: flags)
    model = engine.core().read_model(engine.ENGINE.make(source("yolov5"), "int8", tmp_path))
    types = [
        op.get_output_element_type(0)
        for op in model.get_ordered_ops()
        if op.get_type_name() == "Convert" and op.get_friendly_name().endswith("_Q")
    ]
    assert set(types) == {openvino.Type.u8 if unsigned else openvino.Type.i8}


def test_openvino_refuses_integers_that_it_computes_wrongly(tmp_path: Path, monkeypatch) -> None:
    engine = pytest.importorskip("yoloq.engines.openvino")
    monkeypatch.setattr(engine, "wants_unsigned", lambda: False)
    file = engine.ENGINE.make(source("yolov5"), "int8", tmp_path)
    assert engine.load(file, "int8", "cpu", 1)
    monkeypatch.setattr(engine, "wants_unsigned", lambda: True)
    with pytest.raises(
        EngineError, match=r"openvino-int8.xml: was built on a CPU with AMX.*--force"
    ):
        engine.load(file, "int8", "cpu", 1)


def test_openvino_leaves_signals_alone() -> None:
    """Two of its cores would leave the thread a stack for signals that is freed (AMX)."""
    code = """
import signal, openvino, openvino.opset13 as ops
from yoloq.engines.openvino import core
def compiled():
    x = ops.parameter([1, 4], openvino.Type.f32)
    return core().compile_model(openvino.Model([ops.relu(x)], [x]), "CPU")
first, second = compiled(), compiled()
del first, second
signal.signal(signal.SIGUSR1, lambda *_: print("handled"))
signal.raise_signal(signal.SIGUSR1)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "handled\n", done.stderr


@pytest.mark.parametrize("symmetric", [True, False], ids=["symmetric", "asymmetric"])
@pytest.mark.parametrize("name", ["openvino", "onnxruntime", "litert"])
def test_the_image_is_read_in_integers(name: str, symmetric: bool, tmp_path: Path) -> None:
    """Exactly: OpenVINO drops a pair that rounds bytes to themselves, and the int8 with it."""
    rules = [Rule("*", WEIGHT, QuantSpec(symmetric=symmetric))]
    rules += [Rule("model.0", WEIGHT, QuantSpec(symmetric=False)), Rule("model.24", None, None)]
    if name in PLACES:
        need(name)
    made, row = source("yolov5", policy=Policy(tuple(rules))), get_engine(name)
    file = row.make(made, "int8", tmp_path)
    assert row.types is not None
    types = row.types(row.load(file, "int8", "cpu", 1), file, ["model.0.conv"])
    assert types["model.0.conv"] == "int8"
