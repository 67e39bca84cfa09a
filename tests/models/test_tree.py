"""What single modules of a checkpoint say of themselves is what is computed, or it is refused."""

import pytest
import torch
from pickled_models import random_net, save_as_yolov5, tiny
from refused import assert_refused
from torch import nn

from yoloq.models.load import load_model, new_model, save_model
from yoloq.models.yolov5.blocks import Bottleneck

pytestmark = pytest.mark.usefixtures("one_thread")


def raw(net, size=128):
    with torch.no_grad():
        return net(torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(1)))


def assert_same(found, wanted):
    assert [y.shape for y in found] == [y.shape for y in wanted]
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


def each(net, kind):
    return [module for module in net.modules() if isinstance(module, kind)]


def eps_of_one_block(net):
    for bn in each(net.model[2], nn.BatchNorm2d):
        bn.eps = 1e-5
        bn.running_var.uniform_(1e-3, 1e-2)
        bn.weight.data *= 0.1


def no_affine(net):
    net.model[3].bn = nn.BatchNorm2d(net.model[3].bn.num_features, affine=False).eval()


def synchronised(net):
    # its class counts processes when it is made; a pickle holds the same attributes
    net.model[3].bn.__class__ = nn.SyncBatchNorm
    net.model[3].bn.forward = lambda x: nn.BatchNorm2d.forward(net.model[3].bn, x)
    del net.model[3].bn.forward


def slopes(net):
    for index, slope in ((0, 0.1), (3, 0.3), (5, 0.01)):
        net.model[index].act = nn.LeakyReLU(slope)


def no_shortcut(net):
    block = net.model[4].m[0]
    plain = Bottleneck(8, 8)
    plain.cv1, plain.cv2, plain.add = block.cv1, block.cv2, False
    net.model[4].m[0] = plain


def pool(kernel, padding, **more):
    return lambda net: setattr(net.model[9], "m", nn.MaxPool2d(kernel, 1, padding, **more))


def conv(index, **attributes):
    return lambda net: vars(net.model[index].conv).update(attributes)


def dilated(net):
    block = net.model[2].m[0].cv2.conv
    block.dilation, block.padding = (2, 2), (2, 2)


def reflected(net):
    block = net.model[3].conv
    block.padding_mode, block._reversed_padding_repeated_twice = "reflect", [1, 1, 1, 1]


def padding_beside_the_mode(net):
    reflected(net)
    net.model[3].conv.padding = (0, 0)  # other modes than zeros do not read it


def bias(net):
    net.model[3].conv.bias = nn.Parameter(torch.randn(net.model[3].conv.out_channels))


def bilinear(net):
    net.model[11] = nn.Upsample(None, 2.0, "bilinear", align_corners=True)


def activation(module):
    return lambda net: setattr(net.model[5], "act", module)


def bounded(low, high):
    """ReLU6 whose bounds were set after it was made."""
    made = nn.ReLU6()
    made.min_val, made.max_val = low, high
    return made


def strides_and_anchors(net):
    net.detect.stride = (4, 8, 16)
    net.detect.anchors += 1


CHANGES = {
    "none": lambda net: None,
    "eps-of-one-block": eps_of_one_block,
    "no-affine": no_affine,
    "sync-batch-norm": synchronised,
    "slopes": slopes,
    "no-shortcut": no_shortcut,
    "pool-kernel": pool(3, 1),
    "pool-ceil": pool(5, 2, ceil_mode=True),
    "dilation": dilated,
    "padding": conv(0, padding=(1, 1)),
    "padding-mode": reflected,
    "padding-beside-the-mode": padding_beside_the_mode,
    "bias": bias,
    "upsample-mode": bilinear,
    "concat-axis": lambda net: setattr(net.model[12], "d", -3),
    "average-pool": lambda net: setattr(net.model[9], "m", nn.AvgPool2d(5, 1, 2)),
    "bounds-of-relu6": activation(bounded(-0.1, 0.2)),
    "no-batch-norm": lambda net: setattr(net.model[3], "bn", nn.Identity()),
    **{
        type(module).__name__: activation(module)
        for module in (
            *(nn.Identity(), nn.ReLU(), nn.ReLU6(), nn.Hardswish(), nn.Mish(), nn.GELU("tanh")),
            *(nn.ELU(0.3), nn.Hardtanh(-0.1, 0.2), nn.Softplus(2.0), nn.PReLU(16), nn.Sigmoid()),
            *(nn.Tanh(), nn.SELU(), nn.CELU(0.4), nn.Hardsigmoid(), nn.Threshold(0.1, 0.2)),
        )
    },
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_single_module_is_read_as_it_is(change, tmp_path):
    net = random_net({**tiny(2), "width_multiple": 0.03125})
    change(net)
    net.eval()
    save_as_yolov5(tmp_path / "a.pt", net, half=False)
    if change is synchronised:  # which computes on GPUs alone
        net.model[3].bn.__class__ = nn.BatchNorm2d
    wanted = raw(net)
    model = load_model(tmp_path / "a.pt", fuse=False)
    assert_same(raw(model.net), wanted)
    save_model(tmp_path / "own.pt", model)
    assert_same(raw(load_model(tmp_path / "own.pt", fuse=False).net), wanted)
    folded = raw(load_model(tmp_path / "a.pt").net)
    for a, b in zip(folded, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_the_head_says_its_strides_and_anchors_itself(tmp_path, capsys):
    net = random_net(tiny(2))
    wanted = net.detect.anchors.clone()
    strides_and_anchors(net)
    save_as_yolov5(tmp_path / "a.pt", net, half=False)
    head = load_model(tmp_path / "a.pt").head
    assert head.strides == (4, 8, 16)
    pixels = (wanted + 1) * torch.tensor([4, 8, 16]).view(3, 1, 1)
    torch.testing.assert_close(torch.tensor(head.anchors), pixels)
    assert "the checkpoint says strides (4, 8, 16)" in capsys.readouterr().err


def statistics_of_the_batch(net):
    bn = net.model[3].bn
    net.model[3].bn = nn.BatchNorm2d(bn.num_features, track_running_stats=False)


def before_activation(net):
    """A residual block that works on what it adds: in place it changes both."""
    block = net.model[4].m[0]
    block.cv1 = nn.Sequential(nn.ReLU(inplace=True), block.cv1)


def unequal_sides(net):
    reflected(net)
    net.model[3].conv._reversed_padding_repeated_twice = [0, 2, 0, 2]


def hooked(*names):
    def change(net):
        for name in names:
            net.get_submodule(name)._forward_pre_hooks[0] = net.model[0].act

    return change


def other_forward(net):
    net.model[2].m.__dict__["forward"] = "a function's name"


def complex_weight(net):
    conv = net.model[3].conv
    conv.weight = nn.Parameter(conv.weight.to(torch.complex64))


def integer_weight(net):
    conv = net.model[3].conv
    conv.weight = nn.Parameter(conv.weight.to(torch.int8), requires_grad=False)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (before_activation, "'model.4.m.0.cv1.0' works in place"),
        (unequal_sides, "'model.3.conv', a Conv2d, pads its sides unequally"),
        (hooked("model.2.cv1"), "'model.2.cv1' has hooks"),
        (hooked("model.24"), "'model.24' has hooks"),
        (other_forward, "'model.2.m' has a 'forward' of its own"),
        (complex_weight, "'model.3.conv.weight' holds torch.complex64"),
        (integer_weight, "'model.3.conv.weight' holds torch.int8"),
        (lambda net: setattr(net.detect, "stride", (8.5, 16, 32)), "no whole pixels"),
        (lambda net: setattr(net.model[3].bn, "eps", float("nan")), "NaN or Inf on an image"),
        (lambda net: setattr(net.model[2], "scale", 0.5), "'model.2', a C3, has 'scale'"),
        (lambda net: net.model[2].add_module("extra", nn.ReLU()), "a C3, has 'extra'"),
        (lambda net: delattr(net.model[9], "m"), "'model.9', a SPPF, lacks 'm'"),
        (statistics_of_the_batch, "'model.3.bn', a BatchNorm2d, has no running statistics"),
        (lambda net: setattr(net.model[5], "act", nn.RReLU()), "RReLU, which yoloq does not"),
        (lambda net: setattr(net.detect, "nc", 3), "'m' is not 24 channels"),
        (lambda net: setattr(net.detect.m, "0", nn.Conv2d(8, 9, 1)), "'m' is not 21 channels"),
    ],
    ids=[
        *("in-place", "unequal-padding", "hook", "hook-on-the-head", "forward", "complex"),
        *("integers", "stride", "eps", "attribute", "child", "missing"),
        *("batch-statistics", "activation", "nc", "head-width"),
    ],
)
def test_what_yoloq_would_not_compute_is_refused_by_name(change, text, tmp_path):
    net = random_net({**tiny(2), "width_multiple": 0.03125})
    change(net)
    save_as_yolov5(tmp_path / "a.pt", net, half=False)
    assert_refused(tmp_path / "a.pt", text)


def test_images_of_other_channels_are_refused(tmp_path):
    net = random_net(tiny(2))
    net.model[0].conv = nn.Conv2d(4, 8, 6, 2, 2, bias=False)
    save_as_yolov5(tmp_path / "a.pt", net)
    assert_refused(tmp_path / "a.pt", "takes images of 4 channels")


def test_layers_that_nothing_reads_are_left_out(tmp_path, capsys):
    spec = {**tiny(2), "anchors": tiny(2)["anchors"][:2]}
    spec["head"] = [*spec["head"][:-1], [[17, 20], 1, "Detect", ["nc", "anchors"]]]
    net = random_net(spec)
    save_as_yolov5(tmp_path / "a.pt", net, half=False)
    model = load_model(tmp_path / "a.pt", fuse=False)
    assert_same(raw(model.net), raw(net))
    assert "layers 21, 22, 23 are read by none and left out" in capsys.readouterr().err
    assert not any(name.startswith("model.23.") for name in model.net.state_dict())


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            lambda model: model.spec["layers"][3].update({"class": "os.system"}),
            "is a os.system",
        ),
        (lambda model: vars(model).update(family="yolov9"), "is of family 'yolov9'; yoloq knows"),
    ],
    ids=["class", "family"],
)
def test_own_files_of_unknown_parts(change, text, tmp_path):
    model = new_model("yolov5", tiny(2), ("a", "b"))
    change(model)
    save_model(tmp_path / "own.pt", model)
    assert_refused(tmp_path / "own.pt", text)


def test_own_files_are_tried_too(tmp_path):
    model = new_model("yolov5", tiny(2), ("a", "b"))
    model.net.spec["layers"][12]["from"] = [-1, 3]  # a map of another size
    save_model(tmp_path / "own.pt", model)
    assert_refused(tmp_path / "own.pt", "'model.12', a Concat, cannot compute on an image")


@pytest.mark.parametrize("value", [float("nan"), float("inf")], ids=["nan", "inf"])
@pytest.mark.parametrize(
    "name", ["model.4.cv1.bn.running_var", "model.24.m.0.bias"], ids=["buffer", "parameter"]
)
def test_numbers_that_are_none_are_named(value, name, tmp_path):
    net = random_net(tiny(2))
    net.state_dict()[name][3] = value
    save_as_yolov5(tmp_path / "a.pt", net)
    assert_refused(tmp_path / "a.pt", f"1 of {net.state_dict()[name].numel()} numbers of '{name}'")
