"""The forms in which trainers, forks and devices write one and the same classic model."""

import copy
import sys
import types
import zipfile
from argparse import Namespace
from collections import OrderedDict

import pytest
import torch
from pickled_models import as_yolov5, original_classes, random_net, save_as_yolov5, tiny
from refused import assert_refused
from torch import nn

from yoloq.models.load import load_model

pytestmark = pytest.mark.usefixtures("one_thread")
SPEC = {**tiny(2), "width_multiple": 0.03125}


@pytest.fixture(scope="module")
def raw_net():
    return random_net(SPEC, seed=1)


@pytest.fixture(scope="module")
def averaged():
    return random_net(SPEC, seed=2)


def maps(net):
    with torch.no_grad():
        return net(torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(1)))


def assert_is(file, net):
    found, wanted = maps(load_model(file, fuse=False).net), maps(net)
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


def prefixed(state, prefix):
    return OrderedDict((f"{prefix}{name}", tensor) for name, tensor in state.items())


EMA_FORMS = {
    "module": lambda model, state: model,
    "pair": lambda model, state: (model, 1234),
    "list": lambda model, state: [1234, model],
    "state-dict": lambda model, state: state,
    "state-dict-in-pair": lambda model, state: (state, 1234),
    "module-in-dict": lambda model, state: {"model": model, "updates": 1234},
    "state-dict-in-dict": lambda model, state: {"state_dict": state, "updates": 1234},
    "parallel-state-dict": lambda model, state: prefixed(state, "module."),
    "compiled-state-dict": lambda model, state: prefixed(state, "_orig_mod."),
    "both-prefixes": lambda model, state: prefixed(state, "module._orig_mod."),
    "held-as-model": lambda model, state: prefixed(state, "model."),
    "without-counters": lambda model, state: {
        name: tensor for name, tensor in state.items() if "num_batches" not in name
    },
    "averaged-model": lambda model, state: {
        **prefixed(state, "module."),
        "n_averaged": torch.tensor(7),
    },
    "pair-in-pair": lambda model, state: ((model, 3), 1234),
    "inside-the-model": lambda model, state: prefixed(state, "model.module."),
    "any-prefix": lambda model, state: prefixed(state, "shadow.net."),
    "layers-alone": lambda model, state: {
        name.removeprefix("model."): tensor for name, tensor in state.items()
    },
    "under-another-key": lambda model, state: {"decay": 0.9, "shadow": state},
    "beside-the-raw-weights": lambda model, state: {
        **prefixed(state, "ema_model."),
        **prefixed({name: tensor + 1 for name, tensor in state.items()}, "online_model."),
        "step": torch.tensor(7),
    },
    "numpy": lambda model, state: {name: tensor.numpy() for name, tensor in state.items()},
}


@pytest.mark.parametrize("form", EMA_FORMS.values(), ids=EMA_FORMS)
def test_averaged_weights_win_in_any_form(form, raw_net, averaged, tmp_path):
    with original_classes() as classes:
        model = as_yolov5(averaged, classes)
        ema = form(model, averaged.state_dict())
        torch.save({"model": as_yolov5(raw_net, classes), "ema": ema}, tmp_path / "a.pt")
    assert_is(tmp_path / "a.pt", averaged)


KEYS = ["model_ema", "state_dict_ema", "ema_weights", "modelEMA", "EMA", "swa_model", "averaged"]


@pytest.mark.parametrize("key", KEYS)
def test_averaged_weights_under_other_keys_are_taken_and_said(
    key, raw_net, averaged, tmp_path, capsys
):
    content = {"ema_updates": 7, "ema_decay": torch.tensor(0.9), key: averaged.state_dict()}
    save_as_yolov5(tmp_path / "a.pt", raw_net, half=False, content=content)
    assert_is(tmp_path / "a.pt", averaged)
    assert f"the averaged weights of its `{key}` are taken" in capsys.readouterr().err


LOSSES = {"box": torch.tensor(0.5)}


@pytest.mark.parametrize("value", [3, {"decay": 0.9}, Namespace(decay=0.9), LOSSES], ids=str)
def test_entries_without_averaged_weights(value, raw_net, tmp_path):
    content = {"schema": raw_net.state_dict(), "ema_options": value, "average_precision": value}
    save_as_yolov5(tmp_path / "a.pt", raw_net, half=False, content=content)
    assert_is(tmp_path / "a.pt", raw_net)


def test_an_average_of_parameters_alone_is_not_passed_over(raw_net, tmp_path):
    state = dict(raw_net.named_parameters())
    save_as_yolov5(tmp_path / "a.pt", raw_net, content={"ema": state})
    assert_refused(tmp_path / "a.pt", "(`ema`) lack 'model.0.bn.running_mean', which its `model`")


def test_an_average_without_names_is_not_passed_over(raw_net, tmp_path):
    values = [parameter.detach() for parameter in raw_net.parameters()]
    ema = {"decay": 0.9, "shadow_params": values, "collected_params": None}
    save_as_yolov5(tmp_path / "a.pt", raw_net, content={"ema": ema})
    assert_refused(tmp_path / "a.pt", "(`ema`) lack 'model.0.conv.weight'")


def test_averages_of_several_models_are_not_told_apart(raw_net, tmp_path):
    state = raw_net.state_dict()
    ema = {**prefixed(state, "first."), **prefixed(state, "second.")}
    save_as_yolov5(tmp_path / "a.pt", raw_net, content={"ema": ema})
    assert_refused(tmp_path / "a.pt", "(`ema`) are of several models; remove the entry")


NOTHING = [None, False, 0, 0.0, "", {}, (None, 0), {"model": None, "updates": 7}]


@pytest.mark.parametrize("ema", NOTHING, ids=str)
def test_without_an_average_the_model_is_taken(ema, raw_net, tmp_path):
    save_as_yolov5(tmp_path / "a.pt", raw_net, half=False, content={"ema": ema})
    assert_is(tmp_path / "a.pt", raw_net)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_all_pickle_protocols(protocol, zipped, raw_net, tmp_path):
    options = {"pickle_protocol": protocol, "_use_new_zipfile_serialization": zipped}
    save_as_yolov5(tmp_path / "a.pt", raw_net, half=False, **options)
    assert_is(tmp_path / "a.pt", raw_net)


def test_a_negated_view_keeps_its_sign(raw_net, tmp_path):
    net = copy.deepcopy(raw_net)
    weight = net.model[3].conv.weight
    net.model[3].conv.weight = nn.Parameter(torch._neg_view(-weight.detach()))
    save_as_yolov5(tmp_path / "a.pt", net, half=False)
    assert_is(tmp_path / "a.pt", raw_net)


@pytest.mark.parametrize("ema", [3, (1, 2), "text"], ids=["number", "numbers", "text"])
def test_an_average_of_another_form_is_not_passed_over(ema, raw_net, tmp_path):
    save_as_yolov5(tmp_path / "a.pt", raw_net, content={"ema": ema})
    assert_refused(tmp_path / "a.pt", "averaged weights (`ema`)")


def test_a_model_wrapped_for_several_gpus(raw_net, tmp_path):
    with original_classes() as classes:
        wrapped = nn.DataParallel(as_yolov5(raw_net, classes))
        torch.save({"model": wrapped}, tmp_path / "a.pt")
    assert_is(tmp_path / "a.pt", raw_net)


def test_the_pip_package_s_module_names(raw_net, tmp_path):
    with original_classes("yolov5.") as classes:
        torch.save({"model": as_yolov5(raw_net, classes)}, tmp_path / "a.pt")
    assert_is(tmp_path / "a.pt", raw_net)


class ThroughNumpy(torch.Tensor):
    """Pickles as a tensor of a device that torch writes through NumPy: MPS, DirectML."""

    def __reduce_ex__(self, _):
        array = self.as_subclass(torch.Tensor).detach().numpy()
        arguments = (array, self.dtype, "mps", False)
        return torch._utils._rebuild_device_tensor_from_numpy, arguments


def test_tensors_that_were_written_through_numpy(raw_net, tmp_path):
    with original_classes() as classes:
        model = as_yolov5(raw_net, classes)
        for module in model.modules():
            for name, tensor in module._buffers.items():
                module._buffers[name] = tensor.as_subclass(ThroughNumpy)
            for name, tensor in module._parameters.items():
                if tensor is not None:
                    module._parameters[name] = tensor.detach().as_subclass(ThroughNumpy)
        torch.save({"model": model}, tmp_path / "a.pt")
    assert_is(tmp_path / "a.pt", raw_net)


def load_type(name):
    """Pickled by its path alone: `dill._dill._load_type`."""


class DillSet:
    """Pickles as dill writes a set."""

    def __reduce__(self):
        return _Loaded("set"), ([1, 2],)


class _Loaded:
    def __init__(self, name):
        self.name = name

    def __call__(self, values):
        return set(values)

    def __reduce__(self):
        return load_type, (self.name,)


def test_a_container_type_by_dill_s_name(raw_net, tmp_path, monkeypatch):
    package, module = types.ModuleType("dill"), types.ModuleType("dill._dill")
    module._load_type = load_type
    monkeypatch.setattr(load_type, "__module__", "dill._dill")
    monkeypatch.setattr(load_type, "__qualname__", "_load_type")
    monkeypatch.setitem(sys.modules, "dill", package)
    monkeypatch.setitem(sys.modules, "dill._dill", module)
    attributes = {"labels": DillSet()}
    save_as_yolov5(tmp_path / "a.pt", raw_net, half=False, attributes=attributes)
    assert_is(tmp_path / "a.pt", raw_net)


def test_other_types_by_dill_s_name_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        code = b"\x80\x02cdill._dill\n_load_type\nX\x08\x00\x00\x00CodeType\x85R."
        archive.writestr("archive/data.pkl", code)
        archive.writestr("archive/version", b"3\n")
        archive.writestr("archive/byteorder", b"little")
    assert_refused(tmp_path / "a.pt", "'CodeType'")


def forward_fuse(conv, x):
    """Pickled by its name, as a method of a convolution."""


def fuseforward(conv, x):
    """Its name up to v5.0."""


@pytest.mark.parametrize("method", [forward_fuse, fuseforward])
def test_a_model_that_was_folded_before_it_was_saved(method, raw_net, tmp_path):
    net = copy.deepcopy(raw_net)
    with original_classes() as classes:
        model = as_yolov5(net, classes)
        conv = model.model[3]
        setattr(type(conv), method.__name__, method)
        conv._modules.pop("bn")
        conv.forward = getattr(conv, method.__name__)
        torch.save({"model": model}, tmp_path / "a.pt")
    net.model[3].bn = nn.Identity()
    assert_is(tmp_path / "a.pt", net)


def test_the_folded_method_of_another_convolution_is_refused(raw_net, tmp_path):
    with original_classes() as classes:
        model = as_yolov5(raw_net, classes)
        type(model.model[3]).forward_fuse = forward_fuse
        model.model[3].forward = model.model[5].forward_fuse
        torch.save({"model": model}, tmp_path / "a.pt")
    assert_refused(tmp_path / "a.pt", "'model.3' has a 'forward' of its own")


@pytest.mark.parametrize("part", ["stride", "m", "anchors", "nc"])
def test_a_head_of_another_version_is_named(part, raw_net, tmp_path):
    with original_classes() as classes:
        model = as_yolov5(raw_net, classes)
        delattr(model.model[24], part)
        torch.save({"model": model}, tmp_path / "a.pt")
    assert_refused(tmp_path / "a.pt", f"'model.24', a Detect, has no '{part}'")


def test_a_model_of_another_task_is_named_before_what_else_is_foreign(raw_net, tmp_path):
    for protocol in (2, 4):
        foreign = {"transforms": nn.utils.rnn.PackedSequence}
        save_as_yolov5(
            tmp_path / "a.pt",
            raw_net,
            kind="ClassificationModel",
            attributes=foreign,
            pickle_protocol=protocol,
        )
        assert_refused(tmp_path / "a.pt", "a ClassificationModel, a model for image classification")


def test_a_git_lfs_pointer_is_named(tmp_path):
    (tmp_path / "a.pt").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    assert_refused(tmp_path / "a.pt", "git lfs pull")


@pytest.mark.parametrize(
    ("options", "want"),
    [
        ({"imgsz": 512}, 512),
        ({"imgsz": [640, 480]}, 640),
        ({"img_size": [1280, 1280]}, 1280),
        ({"imgsz": "640"}, None),
        ({}, None),
    ],
    ids=["number", "sides", "old-name", "text", "none"],
)
def test_the_size_that_the_checkpoint_was_trained_at(options, want, raw_net, tmp_path):
    save_as_yolov5(tmp_path / "a.pt", raw_net, content={"opt": options})
    assert load_model(tmp_path / "a.pt").imgsz == want
