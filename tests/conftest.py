"""Fixtures that several test files share."""

import importlib.util
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest
import torch
from tiny_set import TinySet, make_tiny_set

from yoloq.__main__ import main
from yoloq.base.machine import affinity, has_gpu

# Random inputs: few and always the same ones in the suite, many and new ones on request.
COMMON = {"deadline": None, "database": None, "print_blob": True}
hypothesis.settings.register_profile("few", max_examples=20, derandomize=True, **COMMON)
hypothesis.settings.register_profile("many", max_examples=500, **COMMON)
hypothesis.settings.load_profile("few")


def pytest_configure() -> None:
    """Tests import engines' packages themselves: keep those from sending events.

    Where several processes run tests each takes its share of the cores. What `make test` was told
    is not for the `make` that tests call.
    """
    for name in ("ARGS", "MAKEFLAGS", "MAKEOVERRIDES", "MAKELEVEL", "MFLAGS"):
        os.environ.pop(name, None)
    if count := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):
        torch.set_num_threads(max(1, len(affinity()) // int(count)))
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def without_rtx() -> Iterator[None]:
    """Where a test found TensorRT for RTX is forgotten: results are kept under versions."""
    yield
    sys.path[:] = [place for place in sys.path if "tensorrt-rtx" not in place]


@pytest.fixture(scope="session")
def coco_mini() -> Path:
    """Folder of real photographs and the official yolov5n, where the machine has one."""
    folder = os.environ.get("YOLOQ_COCO_MINI")
    if not folder:
        pytest.skip("YOLOQ_COCO_MINI is not set: tests on real images need that folder")
    return Path(folder)


@pytest.fixture(scope="session")
def real(coco_mini: Path) -> Path:
    """Folder of strangers' checkpoints and sets beside the photographs, where it is there."""
    folder = coco_mini.resolve().parent / "real"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there: tests on strangers' files need it")
    return folder


@pytest.fixture(scope="session")
def tensorrt_machine() -> None:
    """Skips what builds real TensorRT engines where that cannot be done."""
    if importlib.util.find_spec("tensorrt") is None:
        pytest.skip("the package tensorrt is not installed: no engine can be built")
    if not has_gpu():
        pytest.skip("torch sees no NVIDIA GPU: no engine can be built")


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Run small networks on one thread: several mostly wait for each other on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinySet:
    """A data set of a few 64 px images with two classes, and a random checkpoint for it."""
    return make_tiny_set(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def ready(tiny: TinySet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a run on the tiny set that has ONNX Runtime's engines; to be copied."""
    project = tmp_path_factory.mktemp("ready")
    flags = ("--engine", "onnxruntime", "--runs", "1", "--threads", "1")
    assert main("engine", tiny.flags(project, *flags)) == 0
    return project


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Ctrl-C is heard, as it is not in a background job of a shell."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def the_error(capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """Reads the one line that a mistake is answered with."""

    def read() -> str:
        [line] = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ")
        return line

    return read
