"""The fakes themselves: they refuse what the bindings refuse."""

import pytest
import tensorrt as trt
from trt_fakes import REQUIRED, FakeTensorRT, Signature, signatures

MAJOR = int(trt.__version__.split(".")[0])


@pytest.fixture
def world() -> FakeTensorRT:
    return FakeTensorRT(trt, {})


@pytest.fixture
def builder(world):
    return world.Builder(trt.Logger())


@pytest.mark.parametrize(
    ("doc", "wanted"),
    [
        ("f(self: a.B) -> None\n\nText.", [Signature((), "None")]),
        (
            "f(self: a.B, x: typing.SupportsInt = 0, y: dict[str, int]) -> bool\n",
            [
                Signature(
                    (("x", "typing.SupportsInt", "0"), ("y", "dict[str, int]", REQUIRED)), "bool"
                )
            ],
        ),
        (
            "f(*args, **kwargs)\nOverloaded function.\n\n1. f(self: a.B, x: str) -> int\n\nText\n\n"
            "2. f(self: a.B, y: str) -> int\n",
            [Signature(((n, "str", REQUIRED),), "int") for n in "xy"],
        ),
        ("no signature", []),
    ],
    ids=["none", "default and brackets", "overloads", "text"],
)
def test_signatures(doc, wanted):
    assert signatures(doc) == wanted


def test_bindings_refuse_to_make_a_builder_without_libraries():
    for kind in (trt.Builder, trt.Runtime):
        with pytest.raises(TypeError, match="nullptr"):
            kind(trt.Logger())


def test_calls_are_recorded_by_name_and_answered_with_the_class_of_the_docstring(world, builder):
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, pool_size=1 << 30)
    assert world.named("IBuilderConfig") == [config]
    bound = {"pool": trt.MemoryPoolType.WORKSPACE, "pool_size": 1 << 30}
    assert world.called("IBuilderConfig", "set_memory_pool_limit") == [bound]


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda b, c: b.create_netwerk(), AttributeError),
        (lambda b, c: b.create_network(1, 2), TypeError),
        (lambda b, c: b.create_network(flag=1), TypeError),
        (lambda b, c: b.create_network("1"), TypeError),
        (lambda b, c: c.set_flag(), TypeError),
        (lambda b, c: c.set_flag(trt.MemoryPoolType.WORKSPACE), TypeError),
        (lambda b, c: c.add_optimization_profile(c), TypeError),
        (lambda b, c: c.create_timing_cache("text"), TypeError),
        (lambda b, c: setattr(c, "num_optimization_profiles", 1), AttributeError),
        (lambda b, c: setattr(c, "builder_optimization_level", "3"), TypeError),
        (lambda b, c: setattr(c, "progress_monitor", object()), TypeError),
        (lambda b, c: b.build_serialized_network(c, c), TypeError),
    ],
    ids=[
        "unknown method",
        "too many",
        "unknown keyword",
        "text for a number",
        "too few",
        "another enum",
        "another class",
        "text for a buffer",
        "read-only property",
        "text for a number property",
        "another class's property",
        "overloads",
    ],
)
def test_slips_are_refused(builder, call, error):
    with pytest.raises(error):
        call(builder, builder.create_builder_config())


@pytest.mark.parametrize(
    "use",
    [
        lambda world, config: world.BuilderFlag.INT8,
        lambda world, config: world.IInt8MinMaxCalibrator,
        lambda world, config: setattr(config, "int8_calibrator", None),
        lambda world, config: world.new("ITensor").set_dynamic_range(-1.0, 1.0),
        lambda world, config: setattr(world.new("ILayer"), "precision", trt.DataType.HALF),
    ],
    ids=["flag", "calibrator", "property", "range", "layer precision"],
)
def test_what_11_lacks_is_refused_there_alone(world, builder, use):
    config = builder.create_builder_config()
    if MAJOR == 10:
        use(world, config)
    else:
        with pytest.raises(AttributeError):
            use(world, config)
