"""Which tensor each convolution reads, on small graphs and on the published yolov5n."""

import pytest
import torch
import torch.nn.functional as F
from tiny_quant import tiny_model
from torch import Tensor, nn

from yoloq.models.load import new_model
from yoloq.models.residuals import Add
from yoloq.models.yolov5.layout import v6_spec
from yoloq.quant.trace import Op, concat_groups, conv_inputs, residual_adds, sibling_groups, trace

pytestmark = pytest.mark.usefixtures("one_thread")


class Branches(nn.Module):
    """Two convolutions of one image, joined, pooled, resized and read by two more."""

    def __init__(self, residual: bool = False) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1)
        self.c, self.d = nn.Conv2d(4, 4, 1), nn.Conv2d(8, 8, 1)
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.a(x), self.b(x)
        y = torch.cat((self.c(a), b), 1)
        y = F.interpolate(F.max_pool2d(y, 2), scale_factor=2.0)
        return self.d(y) + y if self.residual else self.d(y)


@pytest.fixture(scope="module")
def yolov5n() -> list[Op]:
    return trace(new_model("yolov5", v6_spec("n", 80), tuple(map(str, range(80)))).net)


def test_a_network_of_stride_128_is_traced() -> None:
    rows = [[-1, 1, "Conv", [8, 3, 2]]] * 7
    head = [[[5, 6], 1, "Detect", ["nc", "anchors"]]]
    spec = {**v6_spec("n", 3), "backbone": rows, "head": head, "anchors": [[9] * 4] * 2}
    net = new_model("yolov5", spec, ("a", "b", "c")).net
    sizes: list[int] = []
    net.register_forward_pre_hook(lambda _, args: sizes.append(args[0].shape[-1]))
    assert len(conv_inputs(trace(net))) == 9
    assert sizes == [128]


def test_kinds_of_operators() -> None:
    kinds = [op.kind for op in trace(Branches()) if op.kind != "other"]
    assert kinds == ["conv"] * 3 + ["concat", "maxpool", "upsample", "conv"]


def test_a_transposed_convolution_is_none() -> None:
    net = nn.Sequential(nn.ConvTranspose2d(3, 4, 2, 2), nn.Conv2d(4, 4, 1)).eval()
    assert [op.name for op in trace(net) if op.kind == "conv"] == ["1"]


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_trace_sees_convolutions_in_any_context(context: type) -> None:
    with context():
        assert list(conv_inputs(trace(Branches()))) == ["a", "b", "c", "d"]


def test_siblings_read_one_tensor() -> None:
    assert sibling_groups(trace(Branches())) == [["a", "b"], ["c"], ["d"]]


@pytest.mark.parametrize(
    ("residual", "quantized", "groups"),
    [
        pytest.param(False, "abcd", [["a", "b"], ["c"], ["d"]], id="nothing else reads a branch"),
        pytest.param(False, "abc", [["a", "b"], ["c"]], id="a float convolution joins nothing"),
        pytest.param(True, "abcd", [["a", "b"], ["c"], ["d"]], id="read by a float addition"),
    ],
)
def test_concat_groups(residual: bool, quantized: str, groups: list[list[str]]) -> None:
    assert concat_groups(trace(Branches(residual)), set(quantized)) == groups


class Shared(nn.Module):
    """A tensor that a convolution and a concatenation read; `joint` convolves the latter."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.alone, self.joint = (nn.Conv2d(3, 3, 1) for _ in range(3))
        self.joint = nn.Conv2d(6, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.joint(torch.cat((F.max_pool2d(x, 3, 1, 1), self.alone(x)), 1))


@pytest.mark.parametrize(
    ("quantized", "groups"),
    [
        pytest.param(
            {"first", "alone", "joint"}, [["first"], ["alone", "joint"]], id="through a pool"
        ),
        pytest.param({"first", "alone"}, [["first"], ["alone"]], id="read in float"),
        pytest.param({"joint"}, [["joint"]], id="a float reader takes no part"),
    ],
)
def test_concat_groups_are_closed(quantized: set[str], groups: list[list[str]]) -> None:
    assert concat_groups(trace(Shared()), quantized) == groups


def test_sibling_groups_of_yolov5n(yolov5n: list[Op]) -> None:
    groups = sibling_groups(yolov5n)
    assert len(groups) == 50
    assert sum(map(len, groups)) == 60
    assert ["model.17.cv1.conv", "model.17.cv2.conv"] in groups
    assert ["model.18.conv", "model.24.m.0"] in groups
    assert ["model.9.cv2.conv"] in groups


def test_concat_groups_of_yolov5n(yolov5n: list[Op]) -> None:
    names = {n for n in conv_inputs(yolov5n) if not n.startswith(("model.0.", "model.24."))}
    groups = {group[0]: group for group in concat_groups(yolov5n, names)}
    # layer 4 goes to layer 5 and into the concatenation 16; layer 14 into 16, resized, and into 19
    fine = ["model.17.cv1.conv", "model.17.cv2.conv", "model.20.cv1.conv", "model.20.cv2.conv"]
    coarse = ["model.13.cv1.conv", "model.13.cv2.conv", "model.23.cv1.conv", "model.23.cv2.conv"]
    assert groups["model.5.conv"] == ["model.5.conv", *fine]
    assert groups["model.7.conv"] == ["model.7.conv", *coarse]
    assert groups["model.9.cv2.conv"] == ["model.9.cv2.conv"]
    assert groups["model.2.m.0.cv1.conv"] == ["model.2.m.0.cv1.conv"]
    assert len(groups) == 44, "48 tensors, of which twice three share a scale"


def test_focus_stem_reads_slices_of_the_image() -> None:
    ops = trace(tiny_model(stem="focus").net)
    first = next(op for op in ops if op.kind == "conv")
    slices = next(op for op in ops if op.kind == "concat")
    assert first.name == "model.0.conv.conv"
    assert first.inputs == slices.outputs
    assert len(slices.inputs) == 4


class Shortcuts(nn.Module):
    """Additions of several kinds; `beside` reads the residual of `longer` too."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.a, self.b = (nn.Conv2d(3, 3, 1) for _ in range(3))
        self.beside, self.c, self.d, self.e = (nn.Conv2d(3, 3, 1) for _ in range(4))
        self.plain, self.longer, self.outputs = Add(), Add(), Add()

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = self.plain(x, self.a(x))
        beside = self.beside(x)
        x = self.longer(x, self.c(self.b(x) + 1.0).relu())
        return self.outputs(self.d(x), self.e(beside)) + x


def test_residual_additions_and_where_their_branches_begin() -> None:
    # `outputs` adds two convolutions, neither of which is computed from the other
    assert residual_adds(trace(Shortcuts())) == {"plain": "a", "longer": "b"}


def test_a_pass_that_fails_leaves_no_hook() -> None:
    net = Shortcuts()
    net.e = nn.Conv2d(7, 3, 1)
    with pytest.raises(RuntimeError):
        trace(net)
    assert not any(module._forward_pre_hooks for module in net.modules())


def test_residual_additions_of_yolov5n(yolov5n: list[Op]) -> None:
    blocks = ["2.m.0", "4.m.0", "4.m.1", "6.m.0", "6.m.1", "6.m.2", "8.m.0"]
    want = {f"model.{block}.add": f"model.{block}.cv1.conv" for block in blocks}
    assert residual_adds(yolov5n) == want
