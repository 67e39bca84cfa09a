"""Single modules of the ultralytics package's models: what a file says is computed, or refused.

The package's own forward pass of the changed model is the expectation.
"""

import copy

import pytest
import torch
from refused import assert_refused
from torch import nn

from yoloq.base.errors import CheckpointError
from yoloq.models.load import load_model, new_model, save_model
from yoloq.models.ultralytics import package_spec
from yoloq.models.ultralytics.package import import_ultralytics

pytestmark = pytest.mark.usefixtures("one_thread")
SCALES = {"scales": {"n": [0.33, 0.125, 1024]}}


@pytest.fixture(scope="module")
def original():
    torch.manual_seed(0)
    spec = {**package_spec("yolov5n", 3), **SCALES}
    model = import_ultralytics().DetectionModel(spec, ch=3, nc=3, verbose=False)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_var.uniform_(0.5, 2)
    return model.eval()


def maps(model):
    """Raw maps of a model of the package: its layers in order, then both branches of its head."""
    outputs, x = [], torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    head = model.model[-1]
    with torch.no_grad():
        for layer in model.model[:-1]:
            if layer.f != -1:
                x = (
                    outputs[layer.f]
                    if isinstance(layer.f, int)
                    else layer_inputs(layer, x, outputs)
                )
            x = layer(x)
            outputs.append(x)
        return [
            torch.cat((head.cv2[i](outputs[j]), head.cv3[i](outputs[j])), 1)
            for i, j in enumerate(head.f)
        ]


def layer_inputs(layer, x, outputs):
    return [x if j == -1 else outputs[j] for j in layer.f]


def save(file, model):
    torch.save({"model": None, "ema": model, "train_args": {"imgsz": 320}}, file)


def eps(model):
    for bn in (m for m in model.model[2].modules() if isinstance(m, nn.BatchNorm2d)):
        bn.eps = 0.1


def wider_classes(model):
    """The branch before the package capped it: as wide as the classes."""
    kind = type(model.model[0])  # the package's Conv
    for index, branch in enumerate(model.model[-1].cv2):
        width = branch[0].conv.in_channels
        layers = kind(width, 40, 3), kind(40, 40, 3), nn.Conv2d(40, 3, 1)
        model.model[-1].cv3[index] = nn.Sequential(*layers).eval()


CHANGES = {
    "none": lambda model: None,
    "no-activation": lambda model: setattr(model.model[9].cv1, "act", nn.Identity()),
    "one-activation": lambda model: setattr(model.model[3], "act", nn.LeakyReLU(0.2)),
    "eps": eps,
    "pool": lambda model: setattr(model.model[9], "m", nn.MaxPool2d(3, 1, 1)),
    "pools": lambda model: vars(model.model[9]).update(n=3),
    "no-shortcut": lambda model: setattr(model.model[2].m[0], "add", False),
    "padding": lambda model: vars(model.model[0].conv).update(padding=(1, 1)),
    "upsample": lambda model: setattr(model.model[11], "mode", "bilinear"),
    "wider-classes": wider_classes,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_single_module_is_read_as_it_is(change, original, tmp_path):
    model = copy.deepcopy(original)
    change(model)
    save(tmp_path / "a.pt", model)
    loaded = load_model(tmp_path / "a.pt", fuse=False)
    save_model(tmp_path / "own.pt", loaded)
    image = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    for net in (loaded.net, load_model(tmp_path / "own.pt", fuse=False).net):
        with torch.no_grad():
            found = net(image)
        assert all(torch.equal(a, b) for a, b in zip(found, maps(model), strict=True))


def other_block(model):
    """A convolution with a second one beside it, whose sum is normalised."""
    conv = import_ultralytics().Conv2(16, 16, 3, 1)
    conv.f, conv.i = -1, 3
    model.model[3] = conv


def hooked_head(model):
    model.model[-1]._forward_hooks[0] = model.model[0].act


def fourth_stride(model):
    model.model[-1].stride = torch.tensor([8.0, 16.0, 32.0, 64.0])


def half_a_stride(model):
    model.model[-1].stride = torch.tensor([8.5, 16, 32])


def reads_twice(model):
    block = model.model[2].m[0]
    block.cv1 = nn.Sequential(nn.ReLU(inplace=True), block.cv1)


def bins_of_its_own(model):
    model.model[-1].dfl.conv.weight.data *= 2


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda model: setattr(model.model[-1], "nc", 4), "cv3.0 has 3 channels"),
        (lambda model: setattr(model.model[-1], "reg_max", 8), "cv2.0 has 64 channels"),
        (bins_of_its_own, "`dfl` does not count bins"),
        (other_block, "a ultralytics.nn.modules.conv.Conv2, which yoloq does not support"),
        (hooked_head, "has hooks, which run code of its maker"),
        (half_a_stride, "no whole pixels"),
        (fourth_stride, "4 strides and 3 levels in cv2"),
        (reads_twice, "'model.2.m.0.cv1.0' works in place"),
        (lambda model: setattr(model.model[-1], "cv3", None), "lost the one-to-many branch"),
        (
            lambda model: setattr(model.model[2], "forward", "text"),
            "'model.2' has a 'forward' of its own",
        ),
        (lambda model: setattr(model.model[3], "act", nn.RReLU()), "RReLU, which yoloq does not"),
    ],
    ids=[
        *("nc", "reg-max", "dfl", "block", "hook", "stride", "strides", "in-place"),
        *("one-branch", "forward", "activation"),
    ],
)
def test_what_yoloq_would_not_compute_is_refused_by_name(change, text, original, tmp_path):
    model = copy.deepcopy(original)
    change(model)
    save(tmp_path / "a.pt", model)
    assert_refused(tmp_path / "a.pt", text)


def package_model(name):
    """A model of the package; the yamls of v9 have no scales."""
    torch.manual_seed(0)
    spec = {**package_spec(name, 3), "scales": {name[-1]: [0.33, 0.125, 1024]}}
    model = import_ultralytics().DetectionModel(spec, ch=3, nc=3, verbose=False)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    return model.eval()


def merge(model, said):
    """Branches made one convolution by the package's own code; its count."""
    count = 0
    for module in list(model.modules()):
        kind = type(module).__name__
        if kind in ("RepConv", "RepVGGDW"):
            module.fuse_convs() if kind == "RepConv" else module.fuse()
            module.forward = module.forward_fuse
            count += 1
    wanted = maps(model)
    for module in model.modules():
        if not said:
            vars(module).pop("forward", None)
    return count, wanted


@pytest.mark.parametrize("said", [True, False], ids=["with-forward", "without"])
@pytest.mark.parametrize("name", ["yolov9t", "yolov10s"])  # RepConv, RepVGGDW
def test_branches_that_were_merged_for_use(name, said, tmp_path):
    model = package_model(name)
    trained = maps(model)
    count, wanted = merge(model, said)
    assert count
    save(tmp_path / "a.pt", model)
    loaded = load_model(tmp_path / "a.pt", fuse=False)
    save_model(tmp_path / "own.pt", loaded)
    image = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    for net in (loaded.net, load_model(tmp_path / "own.pt", fuse=False).net):
        with torch.no_grad():
            found = net(image)
        assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))
    for a, b in zip(wanted, trained, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_a_model_that_the_package_fused(tmp_path):
    model = package_model("yolov9t")
    trained = maps(model)
    save(tmp_path / "a.pt", model.fuse(verbose=False))
    with torch.no_grad():
        found = load_model(tmp_path / "a.pt").net(
            torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
        )
    for a, b in zip(found, trained, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def half_merged(model):
    block = next(m for m in model.modules() if type(m).__name__ == "RepConv")
    block.forward = block.forward_fuse


def without_a_part(model):
    del next(m for m in model.modules() if type(m).__name__ == "RepBottleneck").cv1


def without_activation(model):
    del next(m for m in model.modules() if type(m).__name__ == "RepConv").act


def identities(model):
    """As `fuse` of 8.3 left the head of v10."""
    model.model[-1].cv2 = model.model[-1].cv3 = nn.ModuleList([nn.Identity()] * 3)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (half_merged, "a RepConv, was fused in a way that is not supported; give the checkpoint"),
        (without_a_part, ".m.0' cannot be rebuilt ('RepBottleneck' object has no attribute 'cv1'"),
        (without_activation, "a RepConv, cannot compute on an image ('RepConv' object has no attr"),
        (identities, "lost the one-to-many branch"),
    ],
    ids=["branches-left", "part", "activation", "identities"],
)
def test_other_changes_to_blocks_are_refused_by_name(change, text, tmp_path):
    model = package_model("yolov9t")
    change(model)
    save(tmp_path / "a.pt", model)
    assert_refused(tmp_path / "a.pt", text)


def test_yoloq_s_own_file_does_not_ask_the_package_s_parser(tmp_path, monkeypatch):
    model = new_model("ultralytics", {**package_spec("yolov5n", 3), **SCALES}, ("a", "b", "c"))
    save_model(tmp_path / "own.pt", model)
    monkeypatch.setattr(import_ultralytics(), "parse_model", None)
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        found, wanted = load_model(tmp_path / "own.pt", fuse=False).net(image), model.net(image)
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


def test_a_block_of_another_version_is_named_with_the_remedy(original, tmp_path, monkeypatch):
    save(tmp_path / "a.pt", original)
    own = load_model(tmp_path / "a.pt", fuse=False)
    save_model(tmp_path / "own.pt", own)
    monkeypatch.delattr("ultralytics.nn.modules.block.SPPF")
    for name in ("a.pt", "own.pt"):
        with pytest.raises(CheckpointError, match=r"'model.9' is a SPPF, .*: install a newer one"):
            load_model(tmp_path / name)
