"""What every family keeps to, and what is special about the ultralytics package's."""

import json
import os
import subprocess
import sys
from inspect import signature

import numpy as np
import pytest
import torch
from torch import nn

from yoloq.base.errors import CheckpointError
from yoloq.models import FAMILIES
from yoloq.models.activations import activation
from yoloq.models.family import get_family
from yoloq.models.heads import head_from_json
from yoloq.models.load import load_model, new_model, save_model
from yoloq.models.residuals import Add, name_residuals
from yoloq.models.ultralytics import build, package_spec
from yoloq.models.ultralytics.package import import_ultralytics
from yoloq.models.yolov5.layout import SIZES, v6_spec
from yoloq.models.yolov5.network import YOLOv5

pytestmark = pytest.mark.usefixtures("one_thread")

NAMES = ("disc", "square", "star")
PARAMETERS = {  # millions, as YOLOv5's README says for 80 classes
    "n": 1.9,
    "s": 7.2,
    "m": 21.2,
    "l": 46.5,
    "x": 86.7,
}
PACKAGE = ["yolov5n", "yolov8n", "yolov9t", "yolov10n", "yolo11n", "yolo12n", "yolo26n"]


def randomise(net):
    """Batch norm statistics that fusing could get wrong."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, 0, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)


def raw(net, images):
    with torch.no_grad():
        return net(images)


def distance(found, wanted):
    """Largest difference of raw maps, relative to the largest value."""
    assert [item.shape for item in found] == [item.shape for item in wanted]
    return max(
        float((a - b).abs().max() / b.abs().max()) for a, b in zip(found, wanted, strict=True)
    )


@pytest.fixture(params=sorted(FAMILIES))
def model(request):
    """An unfused n model of each family."""
    torch.manual_seed(0)
    model = new_model(request.param, get_family(request.param).spec("n", 3), NAMES)
    randomise(model.net)
    return model


@pytest.fixture(scope="module")
def images():
    return torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


def test_forward_gives_raw_maps_that_the_head_decodes(model, images):
    maps = raw(model.net, images)
    sizes = [tuple(item.shape[2:]) for item in maps]
    assert sizes == [(64 // stride, 96 // stride) for stride in model.head.strides]
    assert (model.head.nc, model.names) == (3, NAMES)
    found = model.head.decode([item.numpy() for item in maps], 0.0)
    assert len(found) == 2
    assert all(set(item.classes) == {0, 1, 2} for item in found)


def test_training_and_evaluation_give_maps_of_the_same_shape(model, images):
    shapes = [item.shape for item in model.net(images)]
    assert [item.shape for item in model.net.train()(images)] == shapes


def test_the_network_is_new_float_and_in_eval_mode(model):
    assert (model.fused, model.sha256, model.net.training) == (False, "", False)
    assert {p.dtype for p in model.net.parameters()} == {torch.float32}
    assert all(name.startswith("model.") for name in model.net.state_dict())


def test_spec_and_head_are_json(model, images):
    spec = json.loads(json.dumps(model.spec))
    again = get_family(model.family).build(spec).eval()
    again.load_state_dict(model.net.state_dict())
    assert distance(raw(again, images), raw(model.net, images)) == 0
    assert head_from_json(json.loads(json.dumps(model.head.to_json()))) == model.head


def test_own_format_round_trip(model, images, tmp_path):
    file = tmp_path / "own.pt"
    save_model(file, model, epochs=3)
    torch.load(file, weights_only=True)
    loaded = load_model(file, fuse=False)
    assert distance(raw(loaded.net, images), raw(model.net, images)) == 0
    assert (loaded.names, loaded.family, loaded.spec) == (NAMES, model.family, model.spec)
    assert (loaded.head, loaded.extra, loaded.fused) == (model.head, {"epochs": 3}, False)
    assert len(loaded.sha256) == 64


def test_fused_model_equals_unfused_and_can_be_saved(model, images, tmp_path):
    wanted = raw(model.net, images)
    save_model(tmp_path / "a.pt", model)
    fused = load_model(tmp_path / "a.pt")
    assert fused.fused
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fused.net.modules())
    assert distance(raw(fused.net, images), wanted) < 1e-4
    save_model(tmp_path / "b.pt", fused)
    again = load_model(tmp_path / "b.pt", fuse=False)
    assert again.fused
    assert distance(raw(again.net, images), raw(fused.net, images)) == 0


def test_residual_additions_are_modules(model):
    adds = [name for name, module in model.net.named_modules() if isinstance(module, Add)]
    assert len(adds) == 7  # an n backbone repeats its bottlenecks 1 + 2 + 3 + 1 times
    parents = [model.net.get_submodule(name.partition(".add")[0]) for name in adds]
    assert all({"cv1", "cv2"} <= set(dict(parent.named_children())) for parent in parents)


def test_a_tensor_of_another_shape_is_refused_by_name(model, tmp_path):
    file = tmp_path / "a.pt"
    save_model(file, model)
    content = torch.load(file, weights_only=True)
    name = next(iter(content["state_dict"]))
    content["state_dict"][name] = torch.zeros(1)
    torch.save(content, file)
    with pytest.raises(CheckpointError, match=f"1 tensors do not fit.*{name}"):
        load_model(file)


@pytest.mark.parametrize("size", SIZES)
def test_published_sizes_have_the_published_number_of_parameters(size):
    with torch.device("meta"):
        net = YOLOv5(v6_spec(size, 80))
    count = sum(parameter.numel() for parameter in net.parameters()) / 1e6
    assert count == pytest.approx(PARAMETERS[size], abs=0.1)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("nn.SiLU()", nn.SiLU),
        ("torch.nn.ReLU()", nn.ReLU),
        ("nn.LeakyReLU(0.1)", nn.LeakyReLU),
        ("nn.Hardswish(inplace=True)", nn.Hardswish),
        ("nn.Mish()", nn.Mish),
        ("nn.ReLU6(True)", nn.ReLU6),
    ],
)
def test_activation_texts(text, kind):
    assert type(activation(text)) is kind


@pytest.mark.parametrize(
    "text", ["nn.RReLU()", "nn.LeakyReLU(x)", "", "exec('1')", "nn.SiLU(__import__('os'))", "SiLU"]
)
def test_other_activation_texts_are_refused(text):
    with pytest.raises(CheckpointError, match="not one that yoloq knows"):
        activation(text)


# The ultralytics package


def package_model(name, nc=3):
    """A model of the package itself, random statistics and class scores included."""
    torch.manual_seed(0)
    tasks = import_ultralytics()
    try:
        spec = package_spec(name, nc)
    except FileNotFoundError:
        pytest.skip(f"the installed ultralytics has no {name}; 8.4 has")
    model = tasks.DetectionModel(spec, ch=3, nc=nc, verbose=False)
    randomise(model)
    for branch in [*model.model[-1].cv3, *model.model[-1].cv2]:
        nn.init.normal_(branch[-1].bias)
    return model.eval()


def save_as_package(file, model, **content):
    """Write a checkpoint as the package's trainer does."""
    content = {"epoch": -1, "model": None, "ema": None, "train_args": {"imgsz": 320}, **content}
    torch.save({**content, "ema": model.half()}, file)
    model.float()


@pytest.mark.parametrize("name", PACKAGE)
def test_package_checkpoint_gives_the_package_s_own_boxes(name, tmp_path, images):
    model = package_model(name)
    model.names = {0: "disc", 1: "square", 2: "star"}
    save_as_package(tmp_path / "u.pt", model)
    loaded = load_model(tmp_path / "u.pt")
    assert (loaded.family, loaded.names, loaded.imgsz) == ("ultralytics", NAMES, 320)
    maps = [item.numpy() for item in raw(loaded.net, images)]

    model.model[-1].end2end = False  # compare the one-to-many branch of v10 and 26
    with torch.no_grad():
        decoded = model(images)[0].numpy()  # (N, 4 + nc, cells): x y w h in pixels, scores
    for found, want in zip(loaded.head.decode(maps, 0.0), decoded, strict=True):
        centre, size = want[:2].T, want[2:4].T
        boxes = np.hstack((centre - size / 2, centre + size / 2))
        for c in range(3):
            chosen = found.classes == c
            np.testing.assert_allclose(found.boxes[chosen], boxes, atol=0.05)
            np.testing.assert_allclose(found.scores[chosen], want[4 + c], atol=1e-4)


@pytest.mark.parametrize(
    ("kind", "arguments", "count"),
    [
        ("Bottleneck", (64, 64), 1),
        ("Bottleneck", (64, 32), 0),
        ("RepBottleneck", (64, 64), 1),
        ("GhostBottleneck", (64, 64), 1),
        ("GhostBottleneck", (64, 64, 3, 2), 0),
        ("CIB", (64, 64), 1),
        ("CIB", (64, 64, False), 0),
        ("PSABlock", (64,), 2),
        ("ABlock", (64, 2), 2),
        ("PSA", (128, 128), 2),
        ("SPPF", (64, 64, 5, 3, True), 1),
        ("SPPF", (64, 64), 0),
    ],
)
def test_named_additions_leave_a_block_as_it_was(kind, arguments, count):
    torch.manual_seed(0)
    import_ultralytics()
    block = getattr(sys.modules["ultralytics.nn.modules.block"], kind, None)
    if block is None or len(arguments) > len(signature(block).parameters):
        pytest.skip(f"the installed ultralytics has no {kind} with {len(arguments)} arguments")
    net = nn.Sequential(block(*arguments)).eval()
    randomise(net)
    x = torch.randn(2, arguments[0], 8, 8)
    names, want = list(net.state_dict()), raw(net, x)
    name_residuals(net)
    assert list(net.state_dict()) == names
    assert torch.equal(raw(net, x), want)
    assert sum(isinstance(module, Add) for module in net.modules()) == count


@pytest.mark.parametrize(
    "name", ["yolov8n-seg", "yolov8n-pose", "yolo11n-obb", "yolo11n-cls"], ids=str
)
def test_other_tasks_of_the_package_are_refused(name, tmp_path):
    tasks = import_ultralytics()
    kinds = {"seg": "Segmentation", "pose": "Pose", "obb": "OBB", "cls": "Classification"}
    kind = kinds[name.rpartition("-")[2]] + "Model"
    save_as_package(tmp_path / "u.pt", getattr(tasks, kind)(f"{name}.yaml", verbose=False))
    with pytest.raises(CheckpointError, match=f"holds a {kind}, a model for .*; yoloq quantizes"):
        load_model(tmp_path / "u.pt")


@pytest.mark.parametrize(
    "change",
    [
        lambda spec, call: spec.update(activation=call),
        lambda spec, call: spec["backbone"].insert(0, [-1, 1, "torch_safe_load", [call]]),
        lambda spec, call: spec["backbone"].insert(0, [-1, 1, "torchvision.ops.Conv2d", []]),
        lambda spec, call: spec["head"].append([-1, 1, "Conv", [8]]),
    ],
    ids=["activation", "function", "torchvision", "no-head"],
)
def test_a_yaml_cannot_make_the_package_run_code(change, tmp_path):
    trace = tmp_path / "trace"
    spec = package_spec("yolov5n", 3)
    change(spec, f"__import__('os').system('touch {trace}')")
    with pytest.raises(CheckpointError):
        build(spec)
    assert not trace.exists()


def test_importing_the_package_leaves_the_user_and_the_process_alone(tmp_path):
    code = """if True:
        import os, sys, warnings, cv2, numpy, torch
        from yoloq.models.ultralytics.package import import_ultralytics

        def process():
            return (
                dict(os.environ),
                cv2.getNumThreads(),
                numpy.get_printoptions(),
                str(torch.rand(40, generator=torch.Generator().manual_seed(0))),
                torch.save,
                torch.load,
                list(warnings.filters),
            )

        before = process()
        assert "ultralytics" not in sys.modules
        import_ultralytics()
        assert before == process()
        assert "torchvision" not in sys.modules
    """
    environment = {**os.environ, "HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    environment.pop("XDG_CONFIG_HOME", None)
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(tmp_path.iterdir()) == []
