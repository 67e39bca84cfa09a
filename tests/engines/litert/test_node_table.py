"""Each operator of a .tflite file gives what ONNX Runtime makes of the same graph."""

from typing import Any

import numpy as np
import pytest
from engine_wheels import need
from numpy.typing import NDArray
from operator_graphs import CASES, IMAGES, Step, in_onnx_runtime, operator_graph

from yoloq.base.errors import EngineError
from yoloq.engines import packages
from yoloq.engines.litert.conversion import to_tflite
from yoloq.engines.litert.node_table import NODES


def in_litert(content: bytes, image: NDArray[np.uint8]) -> NDArray[Any]:
    """The result of a file on an image."""
    interpreter = packages.litert().Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


@pytest.mark.parametrize("steps", CASES.values(), ids=CASES)
def test_an_operator_gives_what_onnx_runtime_gives(steps: list[Step]) -> None:
    need("litert")
    model = operator_graph(steps)
    content = to_tflite(model, {})
    for image in (IMAGES[:1], IMAGES[1:]):
        wanted = in_onnx_runtime(model, image)
        found = in_litert(content, image)
        assert found.shape == wanted.shape
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_every_operator_is_tried() -> None:
    tried = {step[0] for steps in CASES.values() for step in steps}
    pairs = {"QuantizeLinear", "DequantizeLinear"}  # of test_litert_integers
    assert NODES.keys() - tried - pairs == {"Cast", "Identity", "Flatten"}


def test_an_operator_without_translation_is_named() -> None:
    need("litert")
    with pytest.raises(EngineError, match=r"no translation for ONNX's Mod \(step0\); .*onnxrun"):
        to_tflite(operator_graph([("Mod", ["x", "half"], {"fmod": 1})]), {})
