"""Each operator of a network of ncnn gives what ONNX Runtime makes of the same graph."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from engine_source import source
from engine_wheels import need
from numpy.typing import NDArray
from operator_graphs import CASES, IMAGES, Step, in_onnx_runtime, operator_graph

from yoloq.base.errors import EngineError
from yoloq.engines import packages
from yoloq.engines.ncnn.layer_table import ROWS
from yoloq.engines.ncnn.loaded_net import FLOAT32
from yoloq.engines.ncnn.translation import to_ncnn
from yoloq.graph.export import INPUT


def in_ncnn(model: onnx.ModelProto, image: NDArray[np.uint8], folder: Path) -> NDArray[Any]:
    """The result of a graph on an image."""
    ncnn = packages.ncnn()
    lines, numbers = to_ncnn(model, "")
    (folder / "net.param").write_text(lines)
    (folder / "net.bin").write_bytes(numbers)
    net = ncnn.Net()
    for name, value in FLOAT32.items():
        setattr(net.opt, name, value)
    net.opt.num_threads = 1
    assert net.load_param(str(folder / "net.param")) == 0
    assert net.load_model(str(folder / "net.bin")) == 0
    extractor = net.create_extractor()
    height, width = image.shape[1:3]
    pixels = ncnn.Mat.from_pixels(image[0], ncnn.Mat.PixelType.PIXEL_RGB, width, height)
    extractor.input(INPUT, pixels)
    code, blob = extractor.extract(model.graph.output[0].name)
    assert code == 0
    return np.array(blob)[None]


@pytest.mark.parametrize("steps", CASES.values(), ids=CASES)
def test_an_operator_gives_what_onnx_runtime_gives(steps: list[Step], tmp_path: Path) -> None:
    need("ncnn")
    model = operator_graph(steps)
    for image in (IMAGES[:1], IMAGES[1:]):
        wanted = in_onnx_runtime(model, image)
        found = in_ncnn(model, image, tmp_path)
        assert found.shape == wanted.shape
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_every_operator_is_tried() -> None:
    tried = {step[0] for steps in CASES.values() for step in steps}
    pairs = {"QuantizeLinear", "DequantizeLinear"}  # of test_ncnn_integers
    assert ROWS.keys() - tried - pairs == {"Cast", "Identity", "Flatten"}


@pytest.mark.parametrize(
    ("steps", "text"),
    [
        (
            [("Mod", ["x", "half"], {"fmod": 1})],
            r"no translation for ONNX's Mod \(step0\); .*onnxr",
        ),
        ([("Concat", ["x", "x"], {"axis": 0})], r"one image at a time.*take --engine onnxruntime"),
    ],
    ids=["operator", "axis of images"],
)
def test_what_has_no_translation_is_named(steps: list[Step], text: str) -> None:
    with pytest.raises(EngineError, match=text) as caught:
        to_ncnn(operator_graph(steps), "")
    assert "\n" not in str(caught.value)


def test_a_silu_is_one_layer() -> None:
    made = source("yolov5")
    lines, _ = to_ncnn(made.exported("fp32").model, "")
    kinds = [line.split()[0] for line in lines.splitlines()[2:]]
    assert kinds.count("Swish") == 57 and "Sigmoid" not in kinds
