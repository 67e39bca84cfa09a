"""A Jetson's DLA over the real enums and signatures of one version of TensorRT."""

import sys
from pathlib import Path

import pytest
import tensorrt as trt
from trt_builds import flags, graph, source
from trt_cuda import Gpu, engine_world
from trt_world import pretend_gpu

from yoloq.base.errors import EngineError
from yoloq.engines import tensorrt as engine
from yoloq.engines.tensorrt import bindings
from yoloq.engines.tensorrt.library import TENSORRT
from yoloq.engines.tensorrt.manifest import read_engine
from yoloq.engines.tensorrt.runtime import open_engine

pytest_plugins = ["trt_builds"]
pytestmark = pytest.mark.usefixtures("one_thread")

MAJOR = int(trt.__version__.split(".")[0])
ON_DLA = ("fp16", "int8-implicit") if MAJOR == 10 else ("fp16", "int8")
only_10 = pytest.mark.skipif(MAJOR != 10, reason="TensorRT 10.x alone")
only_11 = pytest.mark.skipif(MAJOR != 11, reason="TensorRT 11.x alone")


@pytest.fixture
def two_cores(fakes):
    fakes.behaviours["Builder.num_DLA_cores"] = 2
    return fakes


@pytest.mark.parametrize("precision", ON_DLA)
def test_what_a_dla_takes_runs_there_and_the_rest_on_the_gpu(
    precision: str, two_cores, tmp_path: Path
) -> None:
    file = engine.build(graph(source(dla=1), precision), tmp_path)
    (config,) = two_cores.named("IBuilderConfig")
    assert config.default_device_type == trt.DeviceType.DLA
    assert config.DLA_core == 1
    assert trt.BuilderFlag.GPU_FALLBACK in flags(two_cores)
    (created,) = two_cores.called("Builder", "create_network")
    assert created["flags"] == 0, "10.x has no strong types on a DLA, 11.x nothing else"
    if MAJOR == 10:
        assert trt.BuilderFlag.FP16 in flags(two_cores)
        assert (trt.BuilderFlag.INT8 in flags(two_cores)) == (precision == "int8-implicit")
    assert read_engine(TENSORRT, file)[0].dla == 1


def test_fp32_stays_on_the_gpu(two_cores, tmp_path: Path) -> None:
    file = engine.build(graph(source(dla=0), "fp32"), tmp_path)
    assert flags(two_cores) == set()
    (config,) = two_cores.named("IBuilderConfig")
    assert "default_device_type" not in config._values
    assert read_engine(TENSORRT, file)[0].dla is None


def test_a_core_that_is_not_there(two_cores) -> None:
    given = {"dla": 2, "batch": 1}
    with pytest.raises(EngineError, match=r"^--dla 2: TensorRT \S+ sees 2 DLA cores here; docs/je"):
        engine.check(ON_DLA, given)
    engine.check(ON_DLA, given | {"dla": 1})


@only_10
@pytest.mark.parametrize("precisions", [(), ("fp16", "int8")], ids=["all", "int8"])
def test_the_dla_of_10_reads_no_pairs(precisions, two_cores) -> None:
    with pytest.raises(EngineError, match=r"--dla 0: .* reads no Q/DQ; add --precisions fp32 fp16"):
        engine.check(precisions, {"dla": 0})


@only_11
def test_the_dla_of_11_takes_every_precision(two_cores) -> None:
    engine.check((), {"dla": 0})


@pytest.mark.parametrize("core", [-1, 1])
def test_the_runtime_is_told_the_core(core: int, two_cores, tmp_path: Path, monkeypatch) -> None:
    file = engine.build(graph(source(dla=core), "fp16"), tmp_path)
    gpu = Gpu()
    pretend_gpu(monkeypatch)
    gpu.pretend(monkeypatch)
    bindings.logger.cache_clear()
    fakes = engine_world(gpu, 1, 0)
    monkeypatch.setitem(sys.modules, "tensorrt", fakes)
    open_engine(TENSORRT, file, "auto")
    (runtime,) = fakes.named("Runtime")
    assert runtime._values.get("DLA_core", -1) == core
