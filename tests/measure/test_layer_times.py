"""Layer times: every engine's profile keeps the contract, and nothing of a profile is lost."""

import importlib
import os
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import onnx
import pytest
from engine_source import HERE
from tiny_quant import tiny_model, tiny_quantized

from yoloq.engines import get_engine
from yoloq.engines.base import Engine, NodeTime
from yoloq.engines.predictor import ModelInfo
from yoloq.engines.source import Graph, Source
from yoloq.graph.names import convolution_of
from yoloq.measure.layer_times import (
    LayerCost,
    LayerTimes,
    int8_costs,
    layer_times,
    measure_layer_times,
    median_times,
    tensor_readers,
)
from yoloq.models import FAMILIES
from yoloq.quant.calibrate import get_ranges, set_ranges

pytestmark = pytest.mark.usefixtures("one_thread")

SIZE = 320  # counters count whole microseconds: at 64 px some convolutions take none
LAYERS = ("model.0.conv", "model.2.cv1.conv", "model.2.cv2.conv", "model.2.m.0.cv1.conv", "model.3")
CV1 = "/net/model.2/cv1"
READERS = {
    "/net/model.2/cv1/act/Mul_output_0": ["model.2.m.0.cv1.conv"],
    "/net/model.0/act/Mul_output_0": ["model.2.cv1.conv", "model.2.cv2.conv"],
}


def source(family: str, act: str = "SiLU") -> Source:
    """With activations of a trained network's size.

    Where OpenVINO (2026.4) turns int8 into uint8 itself, it runs what reads a Concat of an amax
    less than 0.5 in float.
    """
    model, quantized = tiny_model(family, act=act), tiny_quantized(family, act=act)
    ranges = get_ranges(quantized.model.net)
    set_ranges(quantized.model.net, {name: 8 * pair for name, pair in ranges.items()})
    return Source(ModelInfo(model.head, model.names, SIZE), model, quantized)


@pytest.fixture(scope="module", params=[*FAMILIES, "mixed"])
def family_source(request: pytest.FixtureRequest) -> Source:
    """One of each family, and one whose activations differ from layer to layer."""
    return source("yolov5", "mixed") if request.param == "mixed" else source(request.param)


UNPROFILED = {
    "torch": "its int8 is simulated",
    "litert": "its interpreter gives none to Python",
    "ncnn": "its Python binding gives none",
}


@pytest.fixture(scope="module", params=HERE)
def engine(request: pytest.FixtureRequest) -> Engine:
    engine = get_engine(request.param)
    if engine.profile is None:
        assert engine.name in UNPROFILED
        pytest.skip(f"{engine.name} has no profile: {UNPROFILED[engine.name]}")
    return engine


@pytest.fixture(scope="module")
def profiles(
    engine: Engine, family_source: Source, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, list[NodeTime]]:
    """Nodes by precision; run in an empty folder that has to stay empty."""
    folder, before = tmp_path_factory.mktemp("profile"), os.getcwd()
    (folder / "here").mkdir()
    os.chdir(folder / "here")
    try:
        nodes = {}
        for precision in engine.precisions("cpu"):
            file = engine.make(family_source, precision, folder)
            # counters have whole microseconds, and the smallest layers take less than one
            nodes[precision] = engine.profile(file, precision, "cpu", 1, 40)
        assert os.listdir() == []
    finally:
        os.chdir(before)
    return nodes


def test_every_convolution_has_a_time_and_the_type_it_was_built_for(
    profiles: dict[str, list[NodeTime]], family_source: Source
) -> None:
    placement = family_source.quantized.placement
    for precision, nodes in profiles.items():
        times = layer_times(nodes, placement.layers)
        assert list(times.layers) == list(placement.layers)
        assert min(times.layers.values()) > 0
        for name, plan in placement.layers.items():
            if precision != "int8":
                assert times.precisions[name] == precision
            else:
                assert (times.precisions[name] == "int8") == plan.quantized


def test_nothing_of_a_profile_is_lost(
    profiles: dict[str, list[NodeTime]], family_source: Source
) -> None:
    for nodes in profiles.values():
        assert min(node.ms for node in nodes) >= 0
        for readers in (None, tensor_readers(family_source)):
            times = layer_times(nodes, family_source.quantized.placement.layers, readers)
            assert times.total == pytest.approx(sum(node.ms for node in nodes))
            assert sum(times.kinds.values()) == pytest.approx(times.total)


def test_little_belongs_to_no_layer(
    profiles: dict[str, list[NodeTime]], family_source: Source
) -> None:
    """Names that were not understood would pile up here."""
    for nodes in profiles.values():
        times = layer_times(nodes, family_source.quantized.placement.layers)
        names = {name for node in nodes for name in node.sources}
        blocks = {f"model.{index}" for index in range(len(family_source.model.net.model))}
        assert set(times.others) < blocks
        assert any(name.startswith("/net/model.0/") for name in names)
        outside = [n for n in nodes if not any(s.startswith("/net/") for s in n.sources)]
        assert times.rest == pytest.approx(sum(node.ms for node in outside))
        image = {"images", "/Transpose", "/Cast", "/Cast_original"}
        heads = ("raw", "/Transpose_")
        assert all(set(n.sources) <= image or n.sources[0].startswith(heads) for n in outside)


def test_every_quantized_layer_reads_a_tensor_of_the_graph(family_source: Source) -> None:
    readers = tensor_readers(family_source)
    layers = family_source.quantized.placement.layers
    assert sorted(name for names in readers.values() for name in names) == sorted(layers)


def test_measured_layer_times(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = source("yolov5")
    monkeypatch.setattr("yoloq.measure.layer_times.ROUNDS", 1)
    times = measure_layer_times(engine, small, tmp_path, "cpu", 1, runs=5)
    assert times is not None
    assert next(iter(times)) == "int8" and len(times) == 2
    assert [*times][1] == [p for p in engine.precisions("cpu") if p != "int8"][-1]
    assert list(tmp_path.iterdir()) == []
    for found in times.values():
        assert found.latency_ms is not None and found.latency_ms > 0
        assert set(found.layers) == set(small.quantized.placement.layers)
    assert set(int8_costs(times)) == set(small.quantized.placement.layers)


def test_an_engine_without_a_profile_has_no_layer_times(tmp_path: Path) -> None:
    assert measure_layer_times(get_engine("torch"), source("yolov5"), tmp_path, "cpu", 1, 1) is None


def test_precisions_are_measured_in_turn(tmp_path: Path) -> None:
    small, order = source("yolov5"), []
    info = replace(small.info, imgsz=64)

    class Predictor:
        model, float_type = info, "bf16"

        def __call__(self, images: np.ndarray) -> list[np.ndarray]:
            return []

    def build(graph: Graph, folder: Path) -> Path:
        (folder / graph.precision).touch()
        return folder / graph.precision

    def profile(file: Path, precision: str, *more: object) -> list[NodeTime]:
        assert file.exists()
        order.append(precision)
        ms = {"int8": [9, 1, 2, 3, 9], "bf16": [6, 5, 4, 9, 9]}[precision][
            order.count(precision) - 1
        ]
        return [NodeTime("Conv", precision, ("/net/model.0/conv/Conv",), float(ms))]

    fake = Engine(
        "fake",
        lambda _: ("fp32", "bf16", "int8"),
        build,
        lambda *_: Predictor(),
        {},
        profile=profile,
    )
    times = measure_layer_times(fake, replace(small, info=info), tmp_path, "cpu", 1, runs=5)
    assert times is not None
    assert order == ["int8", "bf16"] * 5
    assert {name: found.layers["model.0.conv"] for name, found in times.items()} == {
        "int8": 3.0,
        "bf16": 6.0,
    }
    assert int8_costs(times)["model.0.conv"].lost_ms == 3.0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("kind", "sources", "layers", "others"),
    [
        pytest.param(
            "Convolution", ("/net/model.2/cv1/conv/Conv/WithoutBiases",), {1: 1}, {}, id="conv"
        ),
        pytest.param(
            "Convolution",
            ("/net/model.2/cv1/conv/Conv", "/net/model.2/cv1/act/Mul", f"{CV1}/act/Mul_output_0_Q"),
            {1: 1},
            {},
            id="conv with activation and the next quantization",
        ),
        pytest.param(
            "Conv", ("/net/model.2/m/m.0/cv1/conv/Conv_token_3",), {3: 1}, {}, id="nested"
        ),
        pytest.param("Conv", ("/net/model.3/Conv",), {4: 1}, {}, id="bare conv"),
        pytest.param("Sigmoid", ("/net/model.2/cv2/act/Sigmoid",), {2: 1}, {}, id="activation"),
        pytest.param(
            "QuickGelu", ("/net/model.0/act/Mul/QuickGeluFusion/",), {0: 1}, {}, id="fused act"
        ),
        pytest.param("Subgraph", (f"{CV1}/act/Mul_output_0_Q",), {3: 1}, {}, id="Q of one reader"),
        pytest.param(
            "Subgraph", (f"{CV1}/act/Mul_output_0_Q_2",), {3: 1}, {}, id="Q, numbered by OpenVINO"
        ),
        pytest.param(
            "Quantize", (f"{CV1}/act/Mul_output_0_1_Q",), {3: 1}, {}, id="second Q of a tensor"
        ),
        pytest.param(
            "Quantize",
            ("/net/model.0/act/Mul_output_0_Q",),
            {1: 0.5, 2: 0.5},
            {},
            id="Q of two readers",
        ),
        pytest.param(
            "DequantizeLinear",
            (f"{CV1}/conv/Conv_output_0_DQ/duplicated",),
            {1: 1},
            {},
            id="DQ behind",
        ),
        pytest.param("Concat", ("/net/model.2/Concat",), {}, {"model.2": 1}, id="concat"),
        pytest.param(
            "Subgraph",
            ("/net/model.2/m/m.0/add/Add", f"{CV1}/act/Mul_output_0_Q"),
            {},
            {"model.2": 1},
            id="add with a quantization",
        ),
        pytest.param(
            "Resize", ("/net/model.11/Resize",), {}, {"model.11": 1}, id="block without conv"
        ),
        pytest.param(
            "MaxPool", ("/net/model.9/m_1/MaxPool",), {}, {"model.9": 1}, id="called again"
        ),
        pytest.param("Cast", ("/Cast",), {}, {}, id="image"),
        pytest.param("Reorder", ("raw0/sink_port_0",), {}, {}, id="result"),
        pytest.param("Convert", (f"{CV1}/act/Cast",), {1: 1}, {}, id="no convolution"),
        pytest.param("Reorder", (), {}, {}, id="nameless"),
    ],
)
def test_what_a_node_counts_for(
    kind: str, sources: tuple[str, ...], layers: dict[int, float], others: dict[str, float]
) -> None:
    times = layer_times([NodeTime(kind, "int8", sources, 1.0)], LAYERS, READERS)
    assert times.layers == {name: layers.get(i, 0) for i, name in enumerate(LAYERS)}
    assert times.others == others
    assert times.rest == (0 if layers or others else 1)


def test_a_quantization_counts_for_its_maker_where_readers_are_not_known() -> None:
    node = NodeTime("Subgraph", "bf16", (f"{CV1}/act/Mul_output_0_Q",), 1.0)
    assert layer_times([node], LAYERS).layers["model.2.cv1.conv"] == 1


def test_precision_is_that_of_the_convolution_itself() -> None:
    nodes = [
        NodeTime("QLinearConv", "int8", ("/net/model.3/Conv",), 1.0),
        NodeTime("ReorderOutput", "fp32", ("/net/model.3/Conv",), 2.0),
        NodeTime("Convert", "bf16", ("/net/model.3/Conv",), 4.0),
    ]
    times = layer_times(nodes, LAYERS)
    assert times.precisions == {"model.3": "int8"}
    assert times.layers["model.3"] == 7


def test_the_total_has_layers_blocks_and_the_rest() -> None:
    times = LayerTimes({"model.2.cv1.conv": 1.0, "model.2.cv2.conv": 2.0}, {"model.2": 4.0}, 8.0)
    assert times.total == 15


def test_int8_may_cost_time() -> None:
    int8 = LayerTimes({"a": 1.0, "b": 3.0}, {}, 0.0)
    half = LayerTimes({"a": 2.5, "b": 2.0}, {}, 0.0)
    costs = int8_costs({"int8": int8, "bf16": half})
    assert costs == {"a": LayerCost(1.0, 2.5), "b": LayerCost(3.0, 2.0)}
    assert {name: cost.lost_ms for name, cost in costs.items()} == {"a": 1.5, "b": -1.0}


def test_medians_are_taken_over_rounds() -> None:
    rounds = [
        LayerTimes({"a": a}, {"b": 2 * a}, 3 * a, {"a": "int8"}, {"c": 4 * a}, a)
        for a in (1.0, 9.0, 2.0)
    ]
    wanted = LayerTimes({"a": 2.0}, {"b": 4.0}, 6.0, {"a": "int8"}, {"c": 8.0}, 2.0)
    assert median_times(rounds) == wanted


def test_kinds_keep_apart_what_only_quantizes() -> None:
    conv, pair = "/net/model.3/Conv", f"{CV1}/act/Mul_output_0_Q"
    nodes = [
        NodeTime("Convolution", "int8", (conv, pair), 1.0),
        NodeTime("Convolution", "int8", (conv,), 2.0),
        NodeTime("Convolution", "bf16", (conv,), 4.0),
        NodeTime("Subgraph", "bf16", (pair,), 8.0),
        NodeTime("Subgraph", "bf16", ("/net/model.2/m/m.0/add/Add", pair), 16.0),
        NodeTime("Reorder", "fp32", (), 32.0),
    ]
    assert layer_times(nodes, LAYERS).kinds == {
        "Convolution int8": 3,
        "Convolution bf16": 4,
        "Quantize bf16": 8,
        "Subgraph bf16": 16,
        "Reorder fp32": 32,
    }


def test_openvino_counts_the_warm_up_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It reports means since compilation: slow first runs must not stay in them."""
    pytest.importorskip("openvino")
    module = importlib.import_module("yoloq.engines.openvino")
    engine, small = get_engine("openvino"), source("yolov5")
    file = engine.make(small, "fp32", tmp_path)
    real = module._counters
    slow = 1_000_000  # a second that every node took in each run of the warm-up

    def counters(predictor: object, runs: int) -> list[object]:
        records = real(predictor, runs)
        warm = len(calls)
        calls.append(runs)
        return [_Slower(r, slow * module.WARMUP / (module.WARMUP + warm * runs)) for r in records]

    calls: list[int] = []
    monkeypatch.setattr(module, "_counters", counters)
    nodes = engine.profile(file, "fp32", "cpu", 1, 5)
    assert calls == [module.WARMUP, 5]
    assert sum(node.ms for node in nodes) < 1000


class _Slower:
    """A counter with a longer mean, in microseconds."""

    def __init__(self, record: object, more: float) -> None:
        self.node_name, self.node_type = record.node_name, record.node_type
        self.real_time = record.real_time + timedelta(microseconds=more)


def test_a_node_of_a_trace_has_its_median() -> None:
    module = importlib.import_module("yoloq.engines.onnxruntime")
    args = {"op_name": "Conv", "output_type_shape": [{"float": [1, 8, 4, 4]}]}
    durations = [1000] * module.WARMUP + [4, 90, 6]
    records = {"/a": [{"dur": dur, "args": args} for dur in durations]}
    graph = onnx.GraphProto(node=[onnx.NodeProto(name="/a", op_type="Conv", input=["x"])])
    assert module._node_times(records, graph) == [NodeTime("Conv", "fp32", ("/a",), 0.006)]


def test_parts_of_a_function_count_for_what_it_reads(tmp_path: Path) -> None:
    """ONNX Runtime unfolds HardSwish into two nodes without names."""
    model = tiny_quantized(act="Hardswish")
    plain = tiny_model(act="Hardswish")
    source = Source(ModelInfo(plain.head, plain.names, 64), plain, model)
    engine = get_engine("onnxruntime")
    nodes = engine.profile(engine.make(source, "int8", tmp_path), "int8", "cpu", 1, 1)
    parts = [node for node in nodes if node.kind == "HardSigmoid"]
    layers = {name: 1 for name, plan in model.placement.layers.items() if plan.quantized}
    assert {convolution_of(node.sources[0], layers) for node in parts} == set(layers)
