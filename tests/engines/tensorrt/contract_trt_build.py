"""Building an engine over the real enums and base classes of one version of TensorRT."""

import os
import signal
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import tensorrt as trt
from tiny_quant import SIZE
from trt_builds import files, flags, graph, source
from trt_world import PLAN, TIMES, pretend_gpu

from yoloq.base.errors import EngineError
from yoloq.base.say import Phases
from yoloq.engines import tensorrt as engine
from yoloq.engines.options import BuildOptions
from yoloq.engines.tensorrt import bindings
from yoloq.engines.tensorrt.cache import save_cache, timing_file, timing_key
from yoloq.engines.tensorrt.library import TENSORRT
from yoloq.engines.tensorrt.manifest import check_fits, read_engine
from yoloq.engines.tensorrt.monitor import monitor

pytest_plugins = ["trt_builds"]
pytestmark = pytest.mark.usefixtures("one_thread")

MAJOR = int(trt.__version__.split(".")[0])
BUILT = ("fp32", "fp16", "int8-implicit", "int8") if MAJOR == 10 else ("fp32", "fp16", "int8")


def test_version_switch():
    assert TENSORRT.load() is trt
    assert bindings.has_builder_precision(trt) == (MAJOR == 10)


def test_precisions(build):
    assert engine.precisions("auto") == BUILT


@pytest.mark.parametrize("kind", ["Builder", "Runtime"])
def test_a_driver_that_is_too_old(kind):
    with pytest.raises(EngineError, match=r"cannot use this machine's GPU.*update the NVIDIA dr"):
        TENSORRT.create(kind)


def test_logger_is_one_and_keeps_errors_and_warnings():
    log = bindings.logger(trt)
    assert isinstance(log, trt.ILogger)
    assert bindings.logger(trt) is log
    log.messages.clear()
    for severity in trt.ILogger.Severity.__members__:
        trt.ILogger.log(log, getattr(trt.ILogger, severity), f"{severity}\nmessage")
    assert list(log.messages.errors) == ["INTERNAL_ERROR\nmessage", "ERROR\nmessage"]
    assert list(log.messages.warnings) == ["WARNING\nmessage"]
    assert log.messages.reason() == "INTERNAL_ERROR message"


@pytest.mark.parametrize("precision", BUILT)
def test_every_precision(precision, build, fakes, tmp_path):
    file = engine.build(graph(source(), precision), tmp_path)
    manifest, plan = read_engine(TENSORRT, file)
    assert plan == PLAN
    assert (manifest.precision, manifest.float_type) == (
        precision,
        "fp32" if precision == "fp32" else "fp16",
    )
    assert manifest.version == trt.__version__
    assert (manifest.gpu, manifest.capabilities, manifest.layers) == ("Some GPU", ["9.0"], [])
    assert manifest.info == source().info
    usual = {"calibrator": "entropy", "fp16_layers": [], "ranges": [], "compute": []}
    assert manifest.options == {**asdict(BuildOptions()), **usual}
    (created,) = fakes.called("Builder", "create_network")
    typed = precision != "int8-implicit"
    if MAJOR == 10:
        bit = int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
        assert created["flags"] == (1 << bit if typed else 0)
    else:
        assert created["flags"] == 0  # 11.x is always strongly typed
    wanted = set() if typed else {trt.BuilderFlag.INT8, trt.BuilderFlag.FP16}
    assert flags(fakes) == wanted
    assert fakes.called("IBuilderConfig", "clear_flag") == [{"flag": trt.BuilderFlag.TF32}]
    assert not fakes.named("IOptimizationProfile")
    assert not fakes.called("IBuilderConfig", "set_memory_pool_limit")
    (config,) = fakes.named("IBuilderConfig")
    assert config.profiling_verbosity == trt.ProfilingVerbosity.DETAILED
    assert config.builder_optimization_level == 3


def test_options_of_all_precisions(fakes, tmp_path):
    engine.build(graph(source(workspace=0.5, tf32=True, level=5), "fp32"), tmp_path)
    assert not fakes.called("IBuilderConfig", "clear_flag")
    limit = {"pool": trt.MemoryPoolType.WORKSPACE, "pool_size": 512 * 1024 * 1024}
    assert fakes.called("IBuilderConfig", "set_memory_pool_limit") == [limit]
    assert fakes.named("IBuilderConfig")[0].builder_optimization_level == 5
    assert read_engine(TENSORRT, tmp_path / "tensorrt-fp32.engine")[0].float_type == "tf32"


@pytest.mark.parametrize("precision", BUILT)
def test_dynamic_batch(precision, fakes, tmp_path):
    engine.build(graph(source(batch=2, max_batch=8), precision), tmp_path)
    counts = [(1, 2, 8), (2, 2, 2)] if precision == "int8-implicit" else [(1, 2, 8)]
    assert fakes.called("IOptimizationProfile", "set_shape") == [
        {"input": "images"}
        | {side: (n, SIZE, SIZE, 3) for side, n in zip(("min", "opt", "max"), each, strict=True)}
        for each in counts
    ]
    profile, *calibrating = fakes.named("IOptimizationProfile")
    assert fakes.called("IBuilderConfig", "add_optimization_profile") == [{"profile": profile}]
    assert fakes.called("IBuilderConfig", "set_calibration_profile") == [
        {"profile": each} for each in calibrating
    ]


def caches(fakes) -> list[bytes]:
    made = fakes.called("IBuilderConfig", "create_timing_cache")
    return [bytes(bound["serialized_timing_cache"]) for bound in made]


def test_timing_cache_serves_the_next_build(fakes, tmp_path):
    for precision in ("fp32", "fp16"):
        engine.build(graph(source(), precision), tmp_path)
    assert caches(fakes) == [b"", TIMES]
    used = fakes.called("IBuilderConfig", "set_timing_cache")
    assert [bound["ignore_mismatch"] for bound in used] == [False, False]


def test_caches_may_lie_apart_from_the_engine(fakes, tmp_path):
    kept, apart = tmp_path / "kept", [tmp_path / "a", tmp_path / "b"]
    for folder in (kept, *apart):
        folder.mkdir()
    for folder in apart:
        engine.build(graph(replace(source(), caches=kept), "fp32"), folder)
        assert files(folder) == {"tensorrt-fp32.engine"}
    assert len(files(kept)) == 1
    assert caches(fakes) == [b"", TIMES]


@pytest.mark.parametrize("damage", ["cut off", "another GPU", "refused"])
def test_timing_cache_that_cannot_be_used(damage, build, fakes, tmp_path, monkeypatch):
    key = timing_key(fakes, TENSORRT.gpu("auto"))
    file = timing_file(tmp_path, key)
    save_cache(file, key, TIMES)
    if damage == "cut off":
        file.write_bytes(file.read_bytes()[:-1])
    elif damage == "another GPU":
        pretend_gpu(monkeypatch, "Another GPU")
    else:
        answers = iter([False, True])
        fakes.behaviours["IBuilderConfig.set_timing_cache"] = lambda *_, **__: next(answers)
    engine.build(graph(source(), "fp32"), tmp_path)
    assert caches(fakes) == ([TIMES, b""] if damage == "refused" else [b""])


def test_parser_errors_are_shown(build, fakes, tmp_path):
    build.parser_errors = tuple((f"/net/{i}", "Conv", f"is\nwrong {i}") for i in range(5))
    with pytest.raises(EngineError) as caught:
        engine.build(graph(source(), "fp16"), tmp_path)
    text = str(caught.value)
    assert "/net/0 (Conv): is wrong 0; /net/1 (Conv): is wrong 1; /net/2" in text
    assert "and 2 more" in text and "\n" not in text
    assert not files(tmp_path)


@pytest.mark.parametrize(
    ("errors", "options", "wanted"),
    [
        (
            ("Error Code 2: OutOfMemory (no further information)",),
            {},
            r"no kernel fits into the GPU's free memory .*OutOfMemory.*--workspace",
        ),
        (
            ("Error Code 10: Could not find any implementation for node /net/Conv.",),
            {"workspace": 0.001},
            r"fits into --workspace 0.001 GiB .*smaller --batch",
        ),
        (
            (
                "an error",
                "Error Code 10: (Could not find any implementation for node {Foreign\n[/a]})",
            ),
            {},
            r"has no kernel for a layer \(.*node {Foreign \[/a\]}\)\); leave fp16 out with --prec",
        ),
        (("Error Code 9: Skipping\n this", "later"), {}, r"build failed \(.*Skipping this\)"),
    ],
    ids=["GPU is full", "small workspace", "no kernel", "another"],
)
def test_failed_build_says_why(errors, options, wanted, build, fakes, tmp_path):
    build.errors = errors
    with pytest.raises(EngineError, match=wanted) as caught:
        engine.build(graph(source(**options), "fp16"), tmp_path)
    assert "\n" not in str(caught.value)
    assert not files(tmp_path)


@pytest.mark.parametrize(
    ("error", "wanted"),
    [
        (
            "Could not find any implementation for node /net/Conv.",
            "fits into the GPU's free memory",
        ),
        ("Skipping this", "build failed"),
    ],
    ids=["no kernel fits", "another"],
)
def test_a_kernel_that_does_not_fit_is_a_warning(error, wanted, build, fakes, tmp_path):
    text = "Tactic Device request: 3296MB Available: 2500MB. Device memory is insufficient to use"
    log = bindings.logger(fakes)
    build.during = lambda config: trt.ILogger.log(log, trt.ILogger.WARNING, text)
    build.errors = (error,)
    with pytest.raises(EngineError, match=wanted):
        engine.build(graph(source(), "fp16"), tmp_path)


def test_the_reason_is_not_what_was_said_of_the_timing_cache(build, fakes, tmp_path):
    def refuse(config, **arguments) -> bool:
        trt.ILogger.log(bindings.logger(fakes), trt.ILogger.ERROR, "the cache is of another GPU")
        return False

    fakes.behaviours["IBuilderConfig.set_timing_cache"] = refuse
    build.errors = ("the real reason",)
    with pytest.raises(EngineError, match=r"build failed \(the real reason\)"):
        engine.build(graph(source(), "fp16"), tmp_path)


def test_warnings_are_counted_and_the_first_are_shown_once(build, fakes, tmp_path, capsys):
    def warned(config) -> None:
        log = bindings.logger(fakes)
        for text in ("Missing scale for\n/net/a", "Missing scale for /net/b") * 40 + ("c", "d"):
            trt.ILogger.log(log, trt.ILogger.WARNING, text)

    build.during = warned
    for _ in range(2):  # those of one build are not counted with the next
        engine.build(graph(source(), "fp16"), tmp_path)
        lines = capsys.readouterr().err.splitlines()
        start = lines.index(
            "warning: tensorrt fp16: TensorRT gave 82 warnings, 4 different; the first:"
        )
        shown = ["  Missing scale for /net/a", "  Missing scale for /net/b", "  c"]
        assert lines[start + 1 : -1] == shown
        assert (
            lines[-1] == "  what matters of them shows in the gate and in the list of layers below"
        )
    build.during = lambda config: None
    engine.build(graph(source(), "fp16"), tmp_path)
    assert "warning" not in capsys.readouterr().err


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_ends_the_build_and_leaves_nothing(build, fakes, tmp_path):
    steps = []

    def interrupted(config) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        for step in range(10_000):
            steps.append(config.progress_monitor.step_complete("Building", step))
            if not steps[-1]:
                return
            time.sleep(0.01)

    build.during = interrupted
    with pytest.raises(KeyboardInterrupt):
        engine.build(graph(source(), "fp16"), tmp_path)
    assert steps[-1] is False  # TensorRT was told, and the thread has ended
    assert not files(tmp_path)


def test_monitor_is_driven_as_tensorrt_does():
    class Bar:
        def __init__(self):
            self.log = []

        def add_task(self, text, total):
            self.log.append(("start", text, total))
            return text.strip()

        def update(self, task, completed):
            self.log.append(("step", task, completed))

        def remove_task(self, task):
            self.log.append(("finish", task))

    bar, cancelled = Bar(), threading.Event()
    made = monitor(trt, Phases(bar), cancelled)
    assert isinstance(made, trt.IProgressMonitor)
    base = trt.IProgressMonitor  # whose methods call the override through C++, as TensorRT does
    base.phase_start(made, "a", None, 2)
    base.phase_start(made, "b", "a", 1)
    assert base.step_complete(made, "b", 0) is True
    base.phase_finish(made, "b")
    base.phase_finish(made, "unknown")
    cancelled.set()
    assert base.step_complete(made, "a", 0) is False
    assert bar.log == [
        ("start", "  a", 2),
        ("start", "    b", 1),
        ("step", "b", 1),
        ("finish", "b"),
        ("step", "a", 1),
    ]


def test_an_engine_fits_where_it_was_built_alone(fakes, tmp_path, monkeypatch):
    file = engine.build(graph(source(), "fp16"), tmp_path)
    manifest, _ = read_engine(TENSORRT, file)
    device = TENSORRT.gpu("auto")
    check_fits(TENSORRT, file, manifest, device)
    older = replace(manifest, version="10.3.0.26")
    with pytest.raises(EngineError, match=r"fp16.engine: was built with TensorRT 10.3.0.26, here"):
        check_fits(TENSORRT, file, older, device)
    for name, capability in (("Another GPU", "9.0"), ("Some GPU", "8.9")):
        pretend_gpu(monkeypatch, name, capability)
        with pytest.raises(EngineError, match=r"for Some GPU \(compute capability 9.0\).*--force"):
            check_fits(TENSORRT, file, manifest, device)


def test_build_thread_keeps_the_folder_clean(fakes, tmp_path: Path):
    engine.build(graph(source(), "fp32"), tmp_path)
    key = timing_key(fakes, TENSORRT.gpu("auto"))
    assert files(tmp_path) == {"tensorrt-fp32.engine", timing_file(tmp_path, key).name}
