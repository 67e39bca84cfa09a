"""Random changes to single modules of random classic networks: plain torch's result, or an error.

Never another figure: what a file says in any attribute is computed, or the file is refused.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import assume, event, given
from pickled_models import random_net, save_as_yolov5
from torch import Tensor, nn

from yoloq.base.errors import CheckpointError
from yoloq.models.load import load_model, save_model
from yoloq.models.yolov5.layout import v6_spec
from yoloq.models.yolov5.network import YOLOv5

pytestmark = pytest.mark.usefixtures("one_thread")

ROWS = [
    ["Conv", [128, 3, 1]],
    ["Conv", [128, 3, 1, None, 2]],
    ["Conv", [128, 3, 1, None, 1, 2]],
    ["DWConv", [128, 5, 1]],
    ["C3", [128]],
    ["C3", [128, False, 2]],
    ["Bottleneck", [128]],
    ["SPP", [128, [3, 5]]],
    ["SPPF", [128, 3]],
    ["GhostConv", [128]],
    ["C3Ghost", [128]],
    ["C3x", [128]],
    ["BottleneckCSP", [128]],
    ["MixConv2d", [128, [1, 3]]],
    ["C3TR", [128]],
]
LAYERS = st.lists(st.sampled_from(ROWS), min_size=1, max_size=3)
ACTIVATIONS = st.sampled_from(
    [
        *(nn.SiLU(), nn.ReLU(), nn.ReLU6(), nn.Hardswish(), nn.Mish(), nn.Identity(), nn.ELU(0.5)),
        *(nn.LeakyReLU(0.1), nn.LeakyReLU(0.3), nn.GELU(), nn.Tanh(), nn.Sigmoid(), nn.RReLU()),
        *(nn.PReLU(1), nn.Hardtanh(-0.5, 0.5), nn.Softplus(), nn.Softmax(1), nn.Hardshrink(0.1)),
    ]
)
PAIRS = st.sampled_from([(0, 0), (1, 1), (2, 2), (1, 2)])
VALUES: dict[type[nn.Module], dict[str, st.SearchStrategy[Any]]] = {
    nn.Conv2d: {
        "stride": st.sampled_from([(1, 1), (2, 2), (1, 2)]),
        "padding": PAIRS,
        "dilation": st.sampled_from([(1, 1), (2, 2)]),
        "padding_mode": st.sampled_from(["zeros", "reflect", "replicate", "circular"]),
        "_reversed_padding_repeated_twice": st.sampled_from([[1, 1, 1, 1], [2, 2, 1, 1]]),
    },
    nn.BatchNorm2d: {"eps": st.sampled_from([1e-5, 1e-3, 0.1]), "momentum": st.floats(0, 1)},
    nn.MaxPool2d: {
        "kernel_size": st.sampled_from([1, 3, 5]),
        "padding": st.integers(0, 2),
        "stride": st.integers(1, 2),
        "ceil_mode": st.booleans(),
    },
    nn.Upsample: {
        "mode": st.sampled_from(["nearest", "bilinear", "nearest-exact"]),
        "scale_factor": st.sampled_from([1.0, 2.0, 4.0]),
    },
}
UNKNOWN = {"scale": st.floats(0, 2), "bn": st.none(), "drop": st.integers(0, 3)}


def network(layers: list[Any], seed: int) -> YOLOv5:
    """The published layout at a narrow width, with drawn layers behind the second."""
    spec = {**v6_spec("n", 2), "width_multiple": 0.0625}
    rows = [[-1, 1, name, arguments] for name, arguments in layers]
    backbone = [*spec["backbone"][:2], *rows, *spec["backbone"][2:4], *spec["backbone"][5:6]]
    last = len(backbone) - 1
    head: list[Any] = [
        [-1, 1, "nn.Upsample", [None, 2, "nearest"]],
        [[-1, last - 1], 1, "Concat", [1]],
        [-1, 1, "C3", [128, False]],
        [[last + 3, last], 1, "Detect", ["nc", "anchors"]],
    ]
    anchors = [[10, 13, 16, 30], [30, 61, 62, 45]]
    return random_net({**spec, "backbone": backbone, "head": head, "anchors": anchors}, seed)


def changed(data: st.DataObject) -> YOLOv5:
    """A network of which up to four modules are not what its yaml makes."""
    net = network(data.draw(LAYERS), data.draw(st.integers(0, 9)))
    for _ in range(data.draw(st.integers(0, 4))):
        # as registered: an attribute that was drawn before can hide a module of its name
        modules = {name: module for name, module in net.named_modules() if _can_change(module)}
        _change(data, modules[data.draw(st.sampled_from(sorted(modules)))])
    return net.eval()


def _can_change(module: nn.Module) -> bool:
    return type(module) in VALUES or hasattr(module, "act")


def _change(data: st.DataObject, module: nn.Module) -> None:
    if type(module) not in VALUES:
        if data.draw(st.integers(0, 9)) == 0:
            name = data.draw(st.sampled_from(sorted(UNKNOWN)))
            module.__dict__[name] = data.draw(UNKNOWN[name])
        else:
            module.act = data.draw(ACTIVATIONS)
        return
    values = VALUES[type(module)]
    name = data.draw(st.sampled_from(sorted(values)))
    setattr(module, name, data.draw(values[name]))


def maps(net: nn.Module) -> list[Tensor]:
    """What plain torch computes on a fixed image."""
    image = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return list(net(image))


@given(data=st.data())
def test_a_changed_network_is_computed_or_refused(data: st.DataObject) -> None:
    net = changed(data)
    try:
        wanted = maps(net)
    except (RuntimeError, TypeError):
        assume(False)  # it cannot run at all
    assume(all(bool(torch.isfinite(y).all()) for y in wanted))
    with TemporaryDirectory() as folder:
        file = Path(folder) / "a.pt"
        save_as_yolov5(file, net, half=False)
        try:
            model = load_model(file, fuse=False)
        except CheckpointError as error:
            event("refused")
            message = str(error)
        else:
            event("computed")
            save_model(Path(folder) / "own.pt", model)
            again = load_model(Path(folder) / "own.pt", fuse=False)
            assert_same(maps(model.net), wanted)
            assert_same(maps(again.net), wanted)
            return
    assert message.startswith(f"{file}: ")
    assert "\n" not in message


def assert_same(found: list[Tensor], wanted: list[Tensor]) -> None:
    assert [y.shape for y in found] == [y.shape for y in wanted]
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))
