"""The table of activations against torch's own."""

import io
import warnings

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
import torch
from torch import nn

from yoloq.graph.activation_nodes import activation_behind, useful
from yoloq.graph.qdq import import_graph

X = np.linspace(-8, 8, 1601)


def exported(module: nn.Module) -> gs.Graph:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            nn.Sequential(nn.Conv2d(1, 1, 1), module),
            (torch.zeros(1, 1, 4, 4),),
            buffer,
            opset_version=19,
            dynamo=False,
        )
    return import_graph(onnx.load_from_string(buffer.getvalue()))


@pytest.mark.parametrize(
    "module",
    [
        nn.SiLU(),
        nn.Mish(),
        nn.Hardswish(),
        nn.ReLU(),
        nn.ReLU6(),
        nn.Hardtanh(-2, 3),
        nn.LeakyReLU(0.2),
        nn.LeakyReLU(),
        nn.ELU(0.7),
        nn.Hardsigmoid(),
        nn.Sigmoid(),
        nn.Tanh(),
    ],
    ids=str,
)
def test_a_row_computes_what_torch_does(module: nn.Module) -> None:
    graph = exported(module)
    conv = next(node for node in graph.nodes if node.op == "Conv")
    found = activation_behind(conv.outputs[0])
    assert found is not None
    assert found.result is graph.outputs[0]
    np.testing.assert_allclose(found(X), module(torch.from_numpy(X)).numpy(), atol=1e-6)


@pytest.mark.parametrize("module", [nn.GELU(), nn.PReLU(), nn.Softsign()], ids=str)
def test_others_are_none_of_the_table(module: nn.Module) -> None:
    conv = next(node for node in exported(module).nodes if node.op == "Conv")
    assert activation_behind(conv.outputs[0]) is None


def test_a_product_with_something_else_is_no_silu() -> None:
    x, gate, other, y = (gs.Variable(name) for name in ("x", "gate", "other", "y"))
    gs.Node("Sigmoid", inputs=[x], outputs=[gate])
    gs.Node("Mul", inputs=[other, gate], outputs=[y])
    found = activation_behind(x)
    assert found is not None
    assert found.row.name == "Sigmoid"


def silu(x: np.ndarray) -> np.ndarray:
    return x / (1 + np.exp(-x))


@pytest.mark.parametrize(
    ("function", "inputs", "most", "kept", "results"),
    [
        pytest.param(silu, (-30, 12), np.inf, (-5.99, 12), (-0.2785, 12), id="SiLU's flat end"),
        pytest.param(silu, (-30, 12), 10, (-5.99, 10), (-0.2785, 10), id="results clipped"),
        pytest.param(silu, (-2, 1), np.inf, (-2, 1), (-0.2785, 0.7311), id="nothing is flat"),
        pytest.param(
            lambda x: np.where(x < 0, x / 10, x), (-20, 5), 5, (-20, 5), (-2, 5), id="LeakyReLU"
        ),
        pytest.param(
            lambda x: np.clip(x / 6 + 0.5, 0, 1), (-20, 9), np.inf, (-3, 3), (0, 1), id="both ends"
        ),
        pytest.param(silu, (0.0, 0.0), np.inf, (0, 0), (0, 0), id="dead"),
    ],
)
def test_useful_part(function, inputs, most, kept, results) -> None:
    found = useful(function, *inputs, most)
    assert found[0] == pytest.approx(kept, abs=0.16)
    assert found[1] == pytest.approx(results, abs=1e-4)
