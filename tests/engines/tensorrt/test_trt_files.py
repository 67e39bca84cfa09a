"""What TensorRT's engine needs without TensorRT: files, caches, batches, and clear errors."""

import builtins
import json
import struct
import sys
import threading
import types
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_quant import SIZE, pictures, tiny_model

from yoloq.base.errors import EngineError
from yoloq.engines import get_engine
from yoloq.engines.options import BuildOptions
from yoloq.engines.predictor import ModelInfo
from yoloq.engines.tensorrt import ENGINE
from yoloq.engines.tensorrt.cache import load_cache, save_cache
from yoloq.engines.tensorrt.calibrator import Feed, evenly, with_ranges
from yoloq.engines.tensorrt.library import TENSORRT
from yoloq.engines.tensorrt.manifest import Manifest, read_engine, write_engine
from yoloq.engines.tensorrt.monitor import cancellable
from yoloq.quant.trace import trace
from yoloq.stages.engine import EngineConfig
from yoloq.stages.engine.build import build_options, check_names

PLAN = bytes(range(256)) * 40


def manifest() -> Manifest:
    model = tiny_model()
    info = ModelInfo(model.head, model.names, SIZE)
    return Manifest(
        model=info.to_json(),
        precision="int8",
        float_type="fp16",
        weights="a" * 64,
        policy="b" * 64,
        version="11.4.0.106",
        gpu="NVIDIA L4",
        capabilities=["8.9"],
        batch=1,
        max_batch=0,
        options={"batch": 1},
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write_engine(TENSORRT, tmp_path / "tensorrt-int8.engine", manifest(), memoryview(PLAN))
    return tmp_path / "tensorrt-int8.engine"


def test_engine_file_holds_both_parts(file: Path):
    found, plan = read_engine(TENSORRT, file)
    assert (found, plan) == (manifest(), PLAN)
    content = file.read_bytes()
    (length,) = struct.unpack("<I", content[:4])
    assert json.loads(content[4 : 4 + length])["gpu"] == "NVIDIA L4"
    assert content[4 + length :] == PLAN
    assert [item.name for item in file.parent.iterdir()] == [file.name]


FOREIGN = {
    "missing": None,
    "empty": b"",
    "a plan of TensorRT's": b"ftrt" + bytes(2000),
    "an ONNX file": b"\x08\x08\x12\x07pytorch" + bytes(3000),
    "JSON of another": struct.pack("<I", 2) + b"{}",
    "no object": struct.pack("<I", 2) + b"[]",
    "no JSON": struct.pack("<I", 4) + b"{...",
    "a length beyond the file": struct.pack("<I", 5000) + b"{}",
}


@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN)
def test_foreign_file(content, tmp_path: Path):
    file = tmp_path / "x.engine"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(
        EngineError, match=r"x.engine: (is no tensorrt engine file|cannot be read).*--force"
    ):
        read_engine(TENSORRT, file)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"gpu": None}, id="no GPU"),
        pytest.param({"plan_bytes": None}, id="no size"),
        pytest.param({"cores": 4}, id="more than we know"),
        pytest.param({"model": "{}"}, id="another model"),
        pytest.param({"model": "5"}, id="no model"),
    ],
)
def test_engine_file_of_another_version(change, tmp_path: Path):
    data = {"format": "yoloq-tensorrt-1", "plan_bytes": len(PLAN), **asdict(manifest()), **change}
    text = json.dumps({key: value for key, value in data.items() if value is not None}).encode()
    file = tmp_path / "x.engine"
    file.write_bytes(struct.pack("<I", len(text)) + text + PLAN)
    with pytest.raises(EngineError, match=r"x.engine: is of another version .*--force") as caught:
        read_engine(TENSORRT, file)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("left", [0, 1, 3, 4, 100, -len(PLAN), -1])
def test_engine_file_that_is_cut_off(left: int, file: Path):
    file.write_bytes(file.read_bytes()[:left])
    with pytest.raises(
        EngineError, match=r"(is cut off|is no tensorrt engine file).*--force"
    ) as caught:
        read_engine(TENSORRT, file)
    assert ("is cut off (10239 of 10240 bytes)" in str(caught.value)) == (left == -1)


def test_cache_is_found_under_its_key_alone(tmp_path: Path):
    file = tmp_path / "cache"
    assert load_cache(file, "key") is None
    save_cache(file, "key", b"\nlines\nof bytes\x00")
    assert load_cache(file, "key") == b"\nlines\nof bytes\x00"
    assert load_cache(file, "another") is None
    whole = file.read_bytes()
    for damaged in (b"", b"\n", whole[:-1], whole + b"x", b"\xff" + whole[1:]):
        file.write_bytes(damaged)
        assert load_cache(file, "key") is None


@pytest.mark.parametrize(
    ("sizes", "size", "wanted"),
    [
        ([], 2, []),
        ([1], 1, [[0]]),
        ([3, 2], 1, [[0], [1], [2], [3], [4]]),
        ([3, 2], 2, [[0, 1], [2, 3], [4, 0]]),
        ([2, 2], 2, [[0, 1], [2, 3]]),
        ([5], 3, [[0, 1, 2], [3, 4, 0]]),
        ([1, 1], 5, [[0, 1, 0, 1, 0]]),
    ],
    ids=["none", "one", "ones", "filled up", "even", "threes", "fewer than a batch"],
)
def test_evenly(sizes, size, wanted):
    images = np.arange(sum(sizes), dtype=np.uint8)
    batches = np.split(images, np.cumsum(sizes)[:-1]) if sizes else []
    assert [batch.tolist() for batch in evenly(batches, size)] == wanted


def feed(tmp_path: Path, batches, buffer: torch.Tensor, **more) -> Feed:
    arguments = {"ranges": {}, "cancelled": threading.Event()} | more
    return Feed(batches, buffer, tmp_path / "table", "key", **arguments)


@pytest.mark.parametrize("kind", [torch.uint8, torch.float32])
def test_feed_copies_batches_to_one_address(kind, tmp_path: Path):
    told: list[int] = []
    buffer = torch.zeros(2, SIZE, SIZE, 3, dtype=kind)
    made = feed(tmp_path, [pictures(3), pictures(2, seed=1)], buffer, report=told.append)
    seen = []
    while addresses := made.next():
        assert addresses == [buffer.data_ptr()]
        seen.append(buffer.numpy().copy())
    wanted = np.concatenate([pictures(3), pictures(2, seed=1), pictures(3)[:1]])
    assert np.array_equal(np.concatenate(seen), wanted)
    assert told == [2, 4, 6]
    assert made.failure is None


def test_feed_stops_when_cancelled_and_keeps_no_table(tmp_path: Path):
    cancelled = threading.Event()
    made = feed(tmp_path, [pictures(3)], torch.zeros(1, SIZE, SIZE, 3), cancelled=cancelled)
    assert made.next()
    cancelled.set()
    assert made.next() is None
    made.save(b"table")
    assert made.load() is None


def test_a_table_that_ranges_went_into_is_not_kept(tmp_path: Path):
    table = b"TRT-101601-EntropyCalibration2\n/a: 3c010a14\n"
    feed(tmp_path, [], torch.zeros(1)).save(table)
    changed = feed(tmp_path, [], torch.zeros(1), ranges={"/a": 127.0})
    loaded = changed.load()
    assert loaded == table.replace(b"3c010a14", b"3f800000")
    changed.save(loaded)
    assert feed(tmp_path, [], torch.zeros(1)).load() == table


def test_ranges_go_into_a_table():
    head = b"TRT-8601-EntropyCalibration2\n/a/Conv_output_0: 3c010a14\n"
    table = head + b"odd: name: 3f800000\n/a: 0\n"
    # scales of 63.5 / 127 and 254 / 127
    found = with_ranges(table, {"odd: name": 63.5, "/a": 254.0, "not there": 1.0})
    assert found == head + b"odd: name: 3f000000\n/a: 40000000\n"
    assert with_ranges(table, {}) == table


def test_work_runs_on_another_thread_and_its_errors_come_back():
    cancelled = threading.Event()
    assert cancellable(threading.current_thread, cancelled) is not threading.current_thread()
    with pytest.raises(EngineError, match="why"):
        cancellable(lambda: (_ for _ in ()).throw(EngineError("why")), cancelled)
    assert not cancelled.is_set()


def test_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(EngineError, match=r"its package is not installed; .venv/bin/pip inst"):
        TENSORRT.load()


@pytest.mark.parametrize(
    ("gpus", "device", "wanted"),
    [
        (
            1,
            "auto",
            "--engine tensorrt: its package is not installed; .venv/bin/pip install tensor",
        ),
        (1, "cpu", "--device cpu: the tensorrt engine needs an NVIDIA GPU"),
        (1, "cuda:1", "--device cuda:1: this machine has 1 CUDA devices"),
        (0, "auto", "--device auto: torch sees no NVIDIA GPU"),
        (0, "cpu", "--device cpu: the tensorrt engine needs an NVIDIA GPU"),
    ],
    ids=["GPU", "GPU, CPU wanted", "GPU, another wanted", "no GPU", "no GPU, CPU wanted"],
)
def test_the_gpu_is_asked_for_before_gigabytes_are(gpus, device, wanted, monkeypatch):
    no_cuda(monkeypatch, None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EngineError) as caught:
        get_engine("tensorrt", device)
    assert str(caught.value).startswith(wanted) and "\n" not in str(caught.value)
    assert ("driver r580" in str(caught.value)) == ("install" in wanted)


def test_native_libraries_are_missing(monkeypatch, tmp_path: Path):
    (tmp_path / "tensorrt.py").write_text("raise ImportError('libnvinfer.so.10: cannot open\\nit')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    with pytest.raises(EngineError, match=r"cannot be loaded \(libnvinfer.so.10: cannot open it\)"):
        TENSORRT.load()


def test_bindings_are_missing(monkeypatch, tmp_path: Path):
    (tmp_path / "tensorrt.py").write_text("import tensorrt_bindings_that_is_not_there")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    with pytest.raises(EngineError, match="libraries cannot be loaded"):
        TENSORRT.load()


@pytest.mark.parametrize("version", ["8.6.1", "12.0.0.1", "1.1.0"])
def test_version_that_is_neither_10_nor_11(version, monkeypatch):
    module = types.ModuleType("tensorrt")
    module.__version__ = version
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    with pytest.raises(EngineError, match=rf"version {version} is not 10.x or 11.x; .venv/"):
        TENSORRT.load()


def no_cuda(monkeypatch, error: builtins.Exception | None) -> None:
    """torch with CUDA in which no GPU can be used."""

    def init() -> None:
        if error is not None:
            raise error

    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "init", init)


TOO_OLD = RuntimeError(
    "The NVIDIA driver on your system is too old (found version 12040). Please update your GPU "
    "driver by downloading and installing a new\nversion from the URL"
)
NO_DRIVER = RuntimeError("Found no NVIDIA driver on your system. Please check that you have a GPU")


@pytest.mark.parametrize(
    ("error", "wanted"),
    [
        (TOO_OLD, r"driver on your system is too old \(found version 12040\); update it to r580"),
        (NO_DRIVER, r"cannot use an NVIDIA GPU \(Found no NVIDIA driver on your system\)"),
        (None, r"torch sees no NVIDIA GPU"),
    ],
    ids=["driver too old", "no driver", "hidden"],
)
@pytest.mark.parametrize("device", ["auto", "cuda:1"])
def test_no_gpu(error, wanted, device, monkeypatch):
    no_cuda(monkeypatch, error)
    with pytest.raises(EngineError, match=rf"^--device {device}: .*{wanted}.*openvino") as caught:
        ENGINE.precisions(device)
    assert "\n" not in str(caught.value)


def test_torch_without_cuda(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(EngineError, match="--device auto: this torch is built without CUDA"):
        TENSORRT.gpu("auto")


def test_a_stage_asks_first_what_the_version_understands():
    def check(precisions, given) -> None:
        raise EngineError(f"asked for {precisions} and {', '.join(given)}")

    assert ENGINE.compiler is not None
    row = replace(ENGINE, compiler=replace(ENGINE.compiler, check=check))
    config = EngineConfig(level=5, precisions=("int8-implicit",), calibrator="entropy")
    with pytest.raises(EngineError, match=r"asked for \('int8-implicit',\) and level, calibrator"):
        build_options(row, config)
    silent = replace(ENGINE.compiler, check=lambda precisions, given: None)
    assert build_options(replace(row, compiler=silent), config).level == 5


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"fp16_layers": ("model.0", "model.99")}, "--fp16-layers: .*'model.99' matches no conv"),
        ({"ranges": ("model.0=1", "model.99=1")}, "--ranges: .*'model.99' matches no convolution"),
        ({"ranges": ("model.2=1",)}, "--ranges model.2: holds .* convolutions; name one of"),
        ({"fp16_layers": ("model.2",), "ranges": ("model.0=1", "model.2.cv1=2")}, None),
        ({}, None),
    ],
    ids=["layers", "range of nothing", "range of several", "fine", "none"],
)
def test_names_of_layers_are_checked_on_the_network_alone(options, wanted):
    ops = trace(tiny_model().net)
    if wanted is None:
        check_names(ENGINE, BuildOptions(**options), ops)
    else:
        with pytest.raises(EngineError, match=wanted) as caught:
            check_names(ENGINE, BuildOptions(**options), ops)
        assert "\n" not in str(caught.value)


def test_cpu_is_no_device():
    with pytest.raises(EngineError, match="--device cpu: the tensorrt engine needs an NVIDIA GPU"):
        ENGINE.precisions("cpu")


@pytest.mark.parametrize(
    ("device", "wanted"), [("auto", 0), ("cuda", 0), ("cuda:1", 1), ("1", 1), ("cuda:2", None)]
)
def test_gpu_has_an_index(device, wanted, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    if wanted is None:
        with pytest.raises(EngineError, match="--device cuda:2: this machine has 2 CUDA devices"):
            TENSORRT.gpu(device)
    else:
        assert TENSORRT.gpu(device) == torch.device("cuda", wanted)
