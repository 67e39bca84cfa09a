"""Model yamls of classic YOLOv5: arguments as it reads them, further layers, one to five levels.

What is built is pickled under YOLOv5's names and read again, so that both ways in agree.
"""

import pytest
import torch
from pickled_models import random_net, save_as_yolov5
from refused import assert_refused
from torch import nn

from yoloq.base.errors import CheckpointError
from yoloq.models.load import load_model
from yoloq.models.yolov5.hub_blocks import (
    BottleneckCSP,
    CrossConv,
    GhostConv,
    MixConv2d,
    TransformerBlock,
)
from yoloq.models.yolov5.layout import v6_spec
from yoloq.models.yolov5.network import YOLOv5

pytestmark = pytest.mark.usefixtures("one_thread")


def spec(**changes):
    return {**v6_spec("n", 3), "width_multiple": 0.125, **changes}


def backbone(index, row):
    rows = list(spec()["backbone"])
    rows[index] = row
    return spec(backbone=rows)


@pytest.mark.parametrize(
    ("index", "row", "name", "want"),
    [
        (1, [-1, 1, "Conv", [128, 3, 2, "None", 2]], "conv", {"groups": 2, "padding": (1, 1)}),
        (1, [-1, 1, "Conv", [128, 3, 2, 1, 2]], "conv", {"groups": 2, "padding": (1, 1)}),
        (1, [-1, 1, "Conv", [128, 3, 2, 2, 1, 2]], "conv", {"dilation": (2, 2)}),
        (1, [-1, 1, "Conv", [128, 3, 2, None, 1, 2]], "conv", {"padding": (2, 2)}),
        (1, [-1, 1, "DWConv", [64, 3, 2]], "conv", {"groups": 8}),
        (2, [-1, 3, "C3", [128, True, 1, 0.25]], "cv1.conv", {"out_channels": 4}),
        (2, [-1, 3, "C3", [128, "False", 2]], "m.0.cv2.conv", {"groups": 2}),
        (2, [-1, 6, "Bottleneck", [128, True, 1, 0.25]], "1.cv1.conv", {"out_channels": 4}),
        (9, [-1, 1, "SPPF", [1024, 3]], "m", {"kernel_size": 3}),
        (9, [-1, 1, "SPP", [1024, [3, 5]]], "m.1", {"kernel_size": 5}),
        (0, [-1, 1, "Focus", [64, 3]], "conv.conv", {"in_channels": 12}),
        (1, [-1, 1, "nn.MaxPool2d", [2, 2, 0]], "", {"kernel_size": 2, "stride": 2}),
    ],
    ids=[
        *(
            "none-padding-groups",
            "padding-groups",
            "dilation",
            "none-padding-dilation",
            "depth-wise",
        ),
        *("expansion", "text-and-groups", "bottleneck", "sppf", "spp", "focus", "max-pool"),
    ],
)
def test_arguments_of_a_row(index, row, name, want, tmp_path):
    net = YOLOv5(backbone(index, row))
    module = net.model[index].get_submodule(name)
    assert {key: getattr(module, key) for key in want} == want


@pytest.mark.parametrize(
    ("text", "kind", "want"),
    [
        ("nn.LeakyReLU(0.1)", nn.LeakyReLU, {"negative_slope": 0.1}),
        ("nn.LeakyReLU(negative_slope=0.2, inplace=True)", nn.LeakyReLU, {"negative_slope": 0.2}),
        ("torch.nn.ReLU6()", nn.ReLU6, {}),
        ("nn.Mish()", nn.Mish, {}),
    ],
    ids=["number", "keywords", "relu6", "mish"],
)
def test_the_activation_of_a_yaml(text, kind, want):
    act = YOLOv5(spec(activation=text)).model[0].act
    assert type(act) is kind
    assert {key: getattr(act, key) for key in want} == want


def test_a_convolution_that_has_no_activation_gets_none_from_the_yaml():
    rows = backbone(1, [-1, 1, "Conv", [128, 3, 2, 1, 1, 1, False]])
    assert type(YOLOv5({**rows, "activation": "nn.ReLU()"}).model[1].act) is nn.Identity


@pytest.mark.parametrize(
    ("nc", "anchors", "width", "want"),
    [
        (11, [[9] * 8] * 3, 64, 64),  # 4 * (11 + 5): as wide as the head, and so not scaled
        (12, [[9] * 8] * 3, 64, 8),
        (27, [[9] * 4] * 3, 64, 64),  # 2 * (27 + 5)
        (3, 2, 16, 16),  # a number of anchors: 2 * (3 + 5)
    ],
    ids=["four-anchors", "control", "two-anchors", "number"],
)
def test_a_width_equal_to_the_head_s_is_not_scaled(nc, anchors, width, want):
    rows = list(v6_spec("n", nc)["backbone"])
    rows[0] = [-1, 1, "Conv", [width, 6, 2, 2]]
    net = YOLOv5({**spec(), "nc": nc, "anchors": anchors, "backbone": rows})
    assert net.model[0].conv.out_channels == want


BACKBONE = [
    [-1, 1, "Conv", [64, 3, 2]],
    [-1, 1, "Conv", [64, 3, 2]],
    [-1, 1, "Conv", [64, 3, 2]],
    [-1, 1, "Conv", [64, 3, 2]],
    [-1, 1, "Conv", [64, 3, 2]],
    [-1, 1, "Conv", [64, 3, 2]],
    [-1, 1, "Conv", [64, 3, 2]],
]


@pytest.mark.parametrize(
    ("read", "strides"),
    [
        ([2], (8,)),
        ([1, 2], (4, 8)),
        ([2, 3, 4], (8, 16, 32)),
        ([1, 2, 3, 4], (4, 8, 16, 32)),
        ([2, 3, 4, 5, 6], (8, 16, 32, 64, 128)),
    ],
    ids=["one", "two", "three", "four", "five"],
)
def test_levels_and_strides(read, strides, tmp_path):
    head = [[read, 1, "Detect", ["nc", "anchors"]]]
    anchors = [[10, 13, 16, 30]] * len(read)
    net = random_net(spec(backbone=BACKBONE, head=head, anchors=anchors))
    save_as_yolov5(tmp_path / "a.pt", net)
    model = load_model(tmp_path / "a.pt")
    assert model.head.strides == strides
    assert model.head.anchors == (((10, 13), (16, 30)),) * len(read)
    size = 2 * max(strides)
    with torch.no_grad():
        maps = model.net(torch.zeros(1, 3, size, size))
    assert [y.shape[1:] for y in maps] == [(16, size // s, size // s) for s in strides]


HUB_ROWS = {
    "DWConv": [128, 3, 1],
    "GhostConv": [128, 3, 1],
    "GhostBottleneck": [128],
    "C3Ghost": [128],
    "C3TR": [128],
    "C3SPP": [128, [3, 5]],
    "C3x": [128],
    "CrossConv": [128, 3, 1],
    "BottleneckCSP": [128],
    "MixConv2d": [128, [1, 3, 5]],
}


@pytest.mark.parametrize(("name", "arguments"), HUB_ROWS.items(), ids=HUB_ROWS)
def test_further_layers_are_read_as_they_were_built(name, arguments, tmp_path):
    net = random_net(backbone(2, [-1, 3, name, arguments]))
    save_as_yolov5(tmp_path / "a.pt", net, half=False)
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        model = load_model(tmp_path / "a.pt", fuse=False)
        found, wanted = model.net(image), net(image)
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))
    assert net.spec["layers"][2]["class"] == name


def test_a_layer_that_is_not_supported_is_called_so():
    with pytest.raises(CheckpointError, match=r"layer 'Contract' .* is not supported; known: B"):
        YOLOv5(backbone(2, [-1, 1, "Contract", [2]]))


# What further layers compute, written out


def ready(block):
    torch.manual_seed(0)
    for bn in (m for m in block.modules() if isinstance(m, nn.BatchNorm2d)):
        bn.running_mean.normal_()
        bn.running_var.uniform_(0.5, 2)
    return block.eval()


@pytest.fixture
def x():
    return torch.randn(2, 8, 6, 5, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def test_ghost_convolution(x):
    block = ready(GhostConv(8, 12, 3))
    half = nn.functional.silu(block.cv1.bn(block.cv1.conv(x)))
    cheap = nn.functional.conv2d(half, block.cv2.conv.weight, padding=2, groups=6)
    wanted = torch.cat((half, nn.functional.silu(block.cv2.bn(cheap))), 1)
    torch.testing.assert_close(block(x), wanted)


@torch.no_grad()
def test_cross_convolution(x):
    block = ready(CrossConv(8, 8, 3, shortcut=True))
    row = nn.functional.conv2d(x, block.cv1.conv.weight, padding=(0, 1))
    column = nn.functional.silu(block.cv1.bn(row))
    column = nn.functional.conv2d(column, block.cv2.conv.weight, padding=(1, 0))
    torch.testing.assert_close(block(x), x + nn.functional.silu(block.cv2.bn(column)))


@torch.no_grad()
def test_mixed_convolution(x):
    block = ready(MixConv2d(8, 10, (1, 3)))
    assert [m.out_channels for m in block.m] == [5, 5]
    parts = [
        nn.functional.conv2d(x, m.weight, padding=m.kernel_size[0] // 2, groups=m.groups)
        for m in block.m
    ]
    wanted = nn.functional.silu(block.bn(torch.cat(parts, 1)))
    torch.testing.assert_close(block(x), wanted)


@torch.no_grad()
def test_mixed_convolution_up_to_v6_0_adds_what_it_reads(x):
    block = MixConv2d(8, 8, (1, 3))
    block.m = nn.ModuleList(
        nn.Conv2d(8, 4, m.kernel_size, 1, m.padding, bias=False) for m in block.m
    )
    block.act = nn.LeakyReLU(0.1)
    block = ready(block)
    first, second = (m.weight for m in block.m)
    parts = nn.functional.conv2d(x, first), nn.functional.conv2d(x, second, padding=1)
    wanted = x + nn.functional.leaky_relu(block.bn(torch.cat(parts, 1)), 0.1)
    torch.testing.assert_close(block(x), wanted)


def test_mixed_convolution_of_no_known_form_is_refused(tmp_path):
    net = random_net(backbone(2, [-1, 1, "MixConv2d", [128, [1, 3]]]))
    conv = net.model[2].m[0]
    net.model[2].m[0] = nn.Conv2d(conv.in_channels, conv.out_channels, 1, groups=2, bias=False)
    save_as_yolov5(tmp_path / "a.pt", net)
    assert_refused(tmp_path / "a.pt", "convolutions are neither whole nor depth-wise")


@torch.no_grad()
def test_bottleneck_with_bare_convolutions(x):
    block = ready(BottleneckCSP(8, 8, 1))
    first = nn.functional.conv2d(block.m(block.cv1(x)), block.cv3.weight)
    both = torch.cat((first, nn.functional.conv2d(x, block.cv2.weight)), 1)
    torch.testing.assert_close(block(x), block.cv4(nn.functional.silu(block.bn(both))))


@torch.no_grad()
def test_transformer_block(x):
    block = ready(TransformerBlock(8, 8, 2, 1))
    layer = block.tr[0]
    cells = x.flatten(2).transpose(1, 2)  # (N, cells, channels)
    cells = cells + block.linear(cells)
    projections = zip(
        (layer.q, layer.k, layer.v),
        layer.ma.in_proj_weight.chunk(3),
        layer.ma.in_proj_bias.chunk(3),
        strict=True,
    )
    q, k, v = (
        (one(cells) @ weight.T + bias).unflatten(2, (2, 4)).transpose(1, 2)
        for one, weight, bias in projections
    )
    weights = (q @ k.transpose(2, 3) / 2).softmax(3)  # the root of 4 channels a head
    attended = layer.ma.out_proj((weights @ v).transpose(1, 2).flatten(2))
    cells = attended + cells
    cells = layer.fc2(layer.fc1(cells)) + cells
    torch.testing.assert_close(block(x), cells.transpose(1, 2).view_as(x))
