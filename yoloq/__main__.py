"""`yoloq <stage>`: which stages there are, how one is run, and what its end is called."""

try:
    import contextlib
    import importlib
    import os
    import signal
    import sys
    import traceback
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from yoloq.base.config import SERVE, RunConfig, parse_both, summary
    from yoloq.base.errors import UserError
    from yoloq.base.machine import is_out_of_memory, keep_freed_memory
    from yoloq.base.ranks import Served, launched, leading, serve
    from yoloq.base.run_lock import held
    from yoloq.base.say import Voice, fail, say, speaking
    from yoloq.base.variables import as_flags
except KeyboardInterrupt:  # nothing has begun: no trace
    raise SystemExit(130) from None

DEBUG = "--debug"
STAGES = {  # name -> its options, in yoloq/stages/<name>/__init__.py; stage.py there has `run`
    "data": "DataConfig",
    "train": "TrainConfig",
    "baseline": "BaselineConfig",
    "ptq": "PtqConfig",
    "sensitivity": "SensitivityConfig",
    "search": "SearchConfig",
    "diagnose": "DiagnoseConfig",
    "qat": "QatConfig",
    "swap": "SwapConfig",
    "codebook": "CodebookConfig",
    "nas": "NasConfig",
    "engine": "EngineConfig",
    "table": "TableConfig",
    "report": "ReportConfig",
    "predict": "PredictConfig",
    "benchmark": "BenchmarkConfig",
    "auto": "AutoConfig",
    "demo": "DemoConfig",
    "lint_onnx": "LintConfig",
    "gpu_check": "GpuCheckConfig",
}


def main(stage: str = "", arguments: Sequence[str] | None = None) -> int:
    """Run a stage from the command line; returns the exit code (2: the user can mend it).

    Args:
        stage: its name; empty: the first argument.
        arguments: flags, or variables as make takes them; None: those of the process.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not stage and (not given or given[0] in ("-h", "--help")):
        return guarded(lambda: print(listing()))
    return guarded(lambda: run(stage or given.pop(0), given), debug=DEBUG in given)


def run(stage: str, arguments: Sequence[str]) -> Any:
    """Run a stage and show what it returns; torch is imported only once the flags are right.

    Raises:
        UserError: there is no such stage, or its flags are wrong; and what `run` raises.
    """
    name = stage.replace("-", "_")
    if name not in STAGES:
        raise UserError(f"{stage}: is no stage of yoloq; --help lists them")
    program, kind = f"yoloq {name.replace('_', '-')}", options_of(name)
    if served := beside_the_first(kind, program):
        return served
    config, voice = parse_both(kind, Voice, [*as_flags(arguments)], program)
    with speaking(voice), alone(config, program), led(kind):
        module = importlib.import_module(f"yoloq.stages.{name}.stage")
        found = module.run(config)
        importlib.import_module("yoloq.stages.end").conclude(module, config, found)
    return found


def alone(config: Any, program: str) -> contextlib.AbstractContextManager[None]:
    """Keeps others out of the run folder where the stage asks for that.

    Of the processes that `torchrun` starts the first one does it for all.
    """
    first = os.environ.get("RANK", "0") == "0"
    wanted = isinstance(config, RunConfig) and config.alone and first
    return held(config.folder, program) if wanted else contextlib.nullcontext()


def beside_the_first(kind: type[Any], program: str) -> Served | None:
    """Serve the first process where this is another one that `torchrun` started; None: go on.

    Raises:
        UserError: the stage runs in one process.
    """
    own, use = launched(), getattr(kind, "torchrun", "")
    if own.world > 1 and not use:
        if own.rank:
            return Served(2)  # the first one says why
        raise UserError(f"{program}: runs in one process; start it without torchrun")
    return serve() if own.rank and use == SERVE else None


def led(kind: type[Any]) -> contextlib.AbstractContextManager[None]:
    """The others at the service of a stage that uses them so."""
    return leading() if getattr(kind, "torchrun", "") == SERVE else contextlib.nullcontext()


def options_of(name: str) -> type[Any]:
    """The class of a stage's options."""
    kind: type[Any] = getattr(importlib.import_module(f"yoloq.stages.{name}"), STAGES[name])
    return kind


def listing() -> str:
    """The stages, a line each."""
    rows = [f"  {name.replace('_', '-'):12} {summary(options_of(name))}" for name in STAGES]
    usage = "usage: yoloq STAGE [flags]; STAGE --help lists its flags"
    variables = "make's variables are flags too: WEIGHTS=a.pt is --weights a.pt"
    return "\n".join([usage, variables, "", *rows])


def guarded(work: Callable[[], Any], debug: bool = False) -> int:
    """Do the work; turn errors into one line and an exit code.

    What it returns may have the `exit_code` of a run without errors.

    Args:
        debug: print the stack trace of an error before its line.
    """
    keep_freed_memory()
    try:
        with _termination_as_interrupt(), _traced(debug):
            result = work()
    except UserError as error:
        fail(f"{error}")
        return 2
    except OSError as error:
        named = f"{error.filename}: {error.strerror}" if error.filename else error
        fail(f"{named}; check the path and its permissions")
        return 2
    except Exception as error:  # engines have classes of their own
        if not is_out_of_memory(error):
            raise
        reason = str(error).partition("\n")[0] or "the machine has no more"
        fail(f"out of memory ({reason}); take a smaller --batch-size or --imgsz")
        return 2
    except KeyboardInterrupt:
        say("interrupted; finished parts are kept, start again to go on")
        return 130
    return int(getattr(result, "exit_code", 0))


@contextlib.contextmanager
def _traced(debug: bool) -> Iterator[None]:
    try:
        yield
    except Exception:
        if debug:
            traceback.print_exc()
        raise


@contextlib.contextmanager
def _termination_as_interrupt() -> Iterator[None]:
    """Let SIGTERM unwind like Ctrl-C, so that temporary files and worker processes go."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGTERM) is interrupt:  # not ignored: it would cut the last line
            signal.signal(signal.SIGTERM, before)


if __name__ == "__main__":
    sys.exit(main())
