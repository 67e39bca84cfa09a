"""What is recorded about the machine."""

import json
import subprocess
import sys

import pytest

from yoloq.base import machine as module
from yoloq.base.machine import environment, installed_version, isa_flags, versions
from yoloq.engines import engine_packages

CPUINFO = """processor\t: 0
model name\t: Some CPU @ 2.00GHz
flags\t\t: fpu avx2 avx512f avx512_vnni amx_tile

processor\t: 1
flags\t\t: fpu amx_int8
"""


def test_it_is_json_and_names_what_the_figures_depend_on():
    found = json.loads(json.dumps(environment()))
    assert {"python", "versions", "cpu", "isa", "gpu", "threads", "affinity"} <= found.keys()
    assert found["versions"]["torch"] == pytest.importorskip("torch").__version__
    assert found["threads"] >= 1
    assert found["affinity"]
    assert found["cpu"]


@pytest.mark.parametrize(
    ("device", "wanted"),
    [("auto", "GPU 0"), ("cuda", "GPU 0"), ("cuda:1", "GPU 1"), ("1", "GPU 1"), ("cpu", None)],
)
def test_the_gpu_is_the_one_that_is_used(device, wanted, monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda d=None: f"GPU {(d and d.index) or 0}")
    assert environment(device)["gpu"] == wanted


def test_without_a_gpu_none_is_named():
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert environment()["gpu"] is environment("cpu")["gpu"] is None


def test_processor_is_read_from_the_system(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "CPUINFO", tmp_path / "cpuinfo")
    assert isa_flags() == []
    (tmp_path / "cpuinfo").write_text(CPUINFO)
    assert isa_flags() == ["avx2", "avx512f", "avx512_vnni"]
    assert environment()["cpu"] == "Some CPU @ 2.00GHz"


def test_every_engine_states_its_packages():
    """The graph writer's among them: a Q/DQ file depends on it."""
    known = versions(engine_packages())
    assert {"openvino", "onnxruntime", "tensorrt", "onnx", "onnx-graphsurgeon"} <= known.keys()
    assert environment("cpu", engine_packages())["versions"] == known


def test_a_package_that_is_not_there_has_no_version():
    assert installed_version("no-such-package-of-yoloq") is None


@pytest.mark.parametrize(
    ("installed", "wanted"),
    [
        ({"tensorrt-cu12": "10.16.1.11"}, "10.16.1.11"),
        ({"tensorrt": "11.4.0.106", "tensorrt-cu13": "11.4.0.106"}, "11.4.0.106"),
        ({"torch": "2"}, None),
    ],
    ids=["of CUDA 12", "the usual one", "none"],
)
def test_tensorrt_comes_under_several_names(installed, wanted, monkeypatch):
    def version(name: str) -> str:
        if name not in installed:
            raise module.PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(module, "version", version)
    assert versions(engine_packages())["tensorrt"] == wanted


def test_it_does_not_import_what_it_names():
    code = (
        "import sys; from yoloq.base.machine import environment; environment(); "
        "print([n for n in ('torchvision', 'ultralytics', 'openvino') if n in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("flags", "vnni", "bfloat16"),
    [
        ([], False, False),
        (["avx2"], False, False),
        (["avx2", "avx_vnni"], True, False),
        (["avx512f", "avx512_vnni"], True, False),
        (["avx512f", "avx512_bf16"], False, True),
        (["amx_bf16", "amx_int8"], True, True),
    ],
    ids=["unknown", "avx2", "avx-vnni", "avx512-vnni", "avx512-bf16", "amx"],
)
def test_what_the_instruction_sets_allow(monkeypatch, flags, vnni, bfloat16):
    monkeypatch.setattr(module, "isa_flags", lambda: flags)
    assert module.has_vnni() is vnni
    assert module.has_fast_bfloat16() is bfloat16
