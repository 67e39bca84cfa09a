"""Implicit INT8 of TensorRT 10.x on the real enums and base classes, and its absence in 11.x."""

import struct
from dataclasses import replace

import numpy as np
import pytest
import tensorrt as trt
import torch
from tiny_quant import SIZE, pictures
from trt_builds import files, flags, graph, source

from yoloq.base.errors import EngineError, RunError
from yoloq.engines import tensorrt as engine
from yoloq.engines.options import BuildOptions
from yoloq.engines.source import Calibration
from yoloq.stages.engine import EngineConfig
from yoloq.stages.engine.build import build_options

pytest_plugins = ["trt_builds"]
pytestmark = pytest.mark.usefixtures("one_thread")

MAJOR = int(trt.__version__.split(".")[0])
LAYER = "model.2.cv1.conv"
only_10 = pytest.mark.skipif(MAJOR != 10, reason="TensorRT 10.x alone")
only_11 = pytest.mark.skipif(MAJOR != 11, reason="TensorRT 11.x alone")


@only_10
@pytest.mark.parametrize(
    ("kind", "algorithm"), [("entropy", "ENTROPY_CALIBRATION_2"), ("minmax", "MINMAX_CALIBRATION")]
)
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.filterwarnings("ignore:Use Implicit batch dimensions")
def test_calibrator_sees_every_image_once(kind, algorithm, batch, build, fakes, tmp_path):
    engine.build(graph(source(5, calibrator=kind, batch=batch), "int8-implicit"), tmp_path)
    calibrator = fakes.named("IBuilderConfig")[0].int8_calibrator
    assert calibrator.get_algorithm() == getattr(trt.CalibrationAlgoType, algorithm)
    assert trt.IInt8Calibrator.get_batch_size(calibrator) == batch  # through C++
    assert calibrator.get_batch([]) is None
    (batches,) = build.images
    assert {images.shape for images in batches} == {(batch, SIZE, SIZE, 3)}
    seen = np.concatenate(batches)
    assert seen.dtype == np.float32
    # an odd one is filled up with the first
    assert np.array_equal(seen, pictures(5)[[0, 1, 2, 3, 4, 0][: len(seen)]])
    assert len(seen) == (5 if batch == 1 else 6)


@only_10
def test_calibrated_ranges_are_kept_under_their_key(build, fakes, tmp_path):
    for key in ("a", "a", "b", "b"):
        engine.build(graph(source(2, key=key), "int8-implicit"), tmp_path)
    assert [table is None for table in build.tables] == [True, False, True, False]
    assert [len(images) for images in build.images] == [2, 0, 2, 0]
    engine.build(graph(source(2, key="b", calibrator="minmax"), "int8-implicit"), tmp_path)
    assert build.tables[-1] is None


@only_10
def test_images_that_cannot_be_read_end_the_build(build, fakes, tmp_path):
    def broken():
        yield pictures(2)
        raise RunError("images: gone")

    given = replace(source(), calibration=Calibration("key", 4, broken))
    with pytest.raises(RunError, match="gone"):
        engine.build(graph(given, "int8-implicit"), tmp_path)
    assert not files(tmp_path)  # no table of two images either


@only_10
@pytest.mark.parametrize("where", ["buffer", "images"])
def test_memory_is_too_little_for_the_images(where, build, fakes, tmp_path, monkeypatch):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2.00 GiB")

    given = source(batch=2)
    if where == "buffer":
        monkeypatch.setattr(torch, "empty", full)
    else:
        given = replace(given, calibration=replace(given.calibration, batches=full))
    wanted = r"int8-implicit: no memory for 2 images at once \(CUDA out of memory. Tried.*--batch"
    with pytest.raises(EngineError, match=wanted) as caught:
        engine.build(graph(given, "int8-implicit"), tmp_path)
    assert "\n" not in str(caught.value) and not files(tmp_path)


@only_10
def test_layers_are_looked_up_for_options_alone(build, fakes, tmp_path):
    fakes.behaviours["INetworkDefinition.num_layers"] = 0
    engine.build(graph(source(2), "int8-implicit"), tmp_path)
    for options in ({"fp16_layers": (LAYER,)}, {"ranges": (f"{LAYER}=1",)}):
        with pytest.raises(EngineError, match=f"no layer of its own for {LAYER}; leave it out"):
            engine.build(graph(source(2, **options), "int8-implicit"), tmp_path)


@only_10
def test_no_images_to_calibrate_on(build, fakes, tmp_path):
    with pytest.raises(EngineError, match="needs calibration images"):
        engine.build(graph(replace(source(), calibration=None), "int8-implicit"), tmp_path)


@only_10
def test_layers_are_kept_in_fp16(build, fakes, tmp_path):
    engine.build(graph(source(fp16_layers=("model.24", LAYER)), "int8-implicit"), tmp_path)
    assert trt.BuilderFlag.OBEY_PRECISION_CONSTRAINTS in flags(fakes)
    half = trt.DataType.HALF
    kept = [layer for layer in fakes.named("ILayer") if layer._values.get("precision") == half]
    assert {layer.name for layer in kept} == {
        "/net/model.2/cv1/conv/Conv",
        *(f"/net/model.24/m.{i}/Conv" for i in range(3)),
    }
    typed = fakes.called("ILayer", "set_output_type")
    assert typed == [{"index": 0, "dtype": half}] * 4


@only_10
def test_ranges_by_hand(build, fakes, tmp_path):
    engine.build(graph(source(2, ranges=("model.2.cv1=2.54",)), "int8-implicit"), tmp_path)
    assert fakes.called("ITensor", "set_dynamic_range") == [{"min": -2.54, "max": 2.54}]
    levels = [config.builder_optimization_level for config in fakes.named("IBuilderConfig")]
    assert levels == [0, 3]  # the first only calibrates
    nodes = build.graphs[-1].graph.node
    (node,) = (n for n in nodes if n.name == "/net/model.2/cv1/conv/Conv")
    scale = struct.pack(">f", 0.02).hex()
    lines = build.tables[-1].decode().splitlines()
    assert f"{node.input[0]}: {scale}" in lines
    assert sum(line.endswith("3f800000") for line in lines) == len(lines) - 2


@only_10
@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"fp16_layers": ("model.99",)}, "--fp16-layers: .*matches no convolution; near names"),
        ({"ranges": ("model.99=1",)}, "--ranges: .*matches no convolution; near names"),
        ({"ranges": ("model.2=1",)}, "--ranges model.2: holds .* convolutions; name one of"),
    ],
    ids=["layers", "range of nothing", "range of several"],
)
def test_options_that_do_not_fit(options, wanted, fakes, tmp_path):
    with pytest.raises(EngineError, match=wanted):
        engine.build(graph(source(**options), "int8-implicit"), tmp_path)
    assert not files(tmp_path)


IMPLICIT_ALONE = ("calibrator", "fp16_layers", "ranges")


def test_options_that_this_version_has(fakes):
    engine.check((), ("batch", "workspace"))
    engine.check(("int8",), ("batch", "workspace"))
    if MAJOR == 10:
        engine.check((), IMPLICIT_ALONE)
        engine.check(("int8", "int8-implicit"), IMPLICIT_ALONE)


@only_10
@pytest.mark.parametrize("name", IMPLICIT_ALONE)
def test_options_that_no_precision_uses(name, fakes):
    flag = f"--{name.replace('_', '-')}"
    wanted = f"{flag}: is of int8-implicit alone, which --precisions fp16 int8 leaves out; add"
    with pytest.raises(EngineError, match=wanted):
        engine.check(("fp16", "int8"), ("batch", name))


@only_11
@pytest.mark.parametrize("kind", ["entropy", "minmax"])
def test_a_calibrator_of_11_is_an_error_also_where_it_is_the_default(kind, fakes):
    with pytest.raises(EngineError, match=r"--calibrator: .*make ptq ARGS='--calibrator"):
        build_options(engine.ENGINE, EngineConfig(calibrator=kind))
    assert build_options(engine.ENGINE, EngineConfig()) == BuildOptions()


@only_11
@pytest.mark.parametrize(
    ("precision", "options", "wanted"),
    [
        ("int8-implicit", {}, "--precisions int8-implicit: .*make ptq"),
        ("int8", {"calibrator": "minmax"}, "--calibrator: .*make ptq ARGS='--calibrator"),
        ("int8", {"fp16_layers": ("model.2",)}, "--fp16-layers: .*--keep-float"),
        ("fp16", {"ranges": ("model.2.cv1=1",)}, "--ranges: .*--amax"),
    ],
    ids=["implicit", "calibrator", "layers", "ranges"],
)
def test_what_11_has_replaced(precision, options, wanted, fakes, tmp_path):
    with pytest.raises(EngineError, match=wanted):  # before anything that takes long
        engine.check((precision,), options)
    with pytest.raises(EngineError, match=wanted) as caught:
        engine.build(graph(source(**options), precision), tmp_path)
    assert trt.__version__ in str(caught.value) and "\n" not in str(caught.value)
    assert not fakes.calls
