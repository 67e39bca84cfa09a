"""One frozen dataclass a stage: the only definition of its options, their checks and their help."""

import argparse
import dataclasses
import types
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, TypeVar

from yoloq.base.errors import UserError
from yoloq.base.own_files import DATA, WEIGHTS
from yoloq.base.square import side_of

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

C = TypeVar("C", bound="DataclassInstance")  # a stage's options; most build on StageConfig
D = TypeVar("D", bound="DataclassInstance")

AUTO = "auto"  # the value of an option that something measured decides
SERVE, TOGETHER = "serve", "together"
DEFAULT_IMGSZ = 640  # pixels, where neither data set nor checkpoint says
MAX_IMGSZ = 8192  # pixels; larger is a slip, and would only run out of memory


def option(
    default: Any,
    help: str,
    choices: Sequence[Any] | None = None,
    reader: Callable[[str], Any] | None = None,
) -> Any:
    """A dataclass field with the text that `--help` shows.

    Args:
        reader: makes the value of all the words behind the flag; a ValueError says what is wrong.
    """
    metadata = {"help": help, "choices": choices, "reader": reader}
    if isinstance(default, list):
        raise TypeError("use a tuple for an option of several values")
    return field(default=default, metadata=metadata)


def count_or_auto(text: str) -> int | str:
    """A flag's value that is a number of things, or `auto`.

    Raises:
        ValueError: it is neither.
    """
    if text == AUTO:
        return AUTO
    if not text.isdecimal():
        raise ValueError("must be auto, or 0 or more")
    return int(text)


@dataclass(frozen=True)
class RunConfig:
    """What names a run folder.

    Raises:
        UserError: the name leads out of the folder of all runs.
    """

    weights: str = option(str(WEIGHTS), "checkpoint (.pt)")
    data: str = option(str(DATA), "data set (.yaml)")
    project: str = option("runs", "folder of the run folders")
    name: str = option("", "run folder; empty: <weights>-<data>")

    alone: ClassVar[bool] = False  # whether no other stage may work in the folder meanwhile
    torchrun: ClassVar[str] = ""  # what its processes do: SERVE the first, go TOGETHER; "": refused

    def __post_init__(self) -> None:
        inside = ".." not in Path(self.name).parts and not Path(self.name).is_absolute()
        require(inside, "--name", self.name, "a folder inside --project")

    @property
    def folder(self) -> Path:
        """The run folder."""
        name = self.name or f"{Path(self.weights).stem}-{Path(self.data).stem}"
        return Path(self.project) / name


@dataclass(frozen=True)
class StageConfig(RunConfig):
    """What every stage takes that makes a result of a run.

    Raises:
        UserError: a value is out of range; the text names the flag.
    """

    imgsz: int = option(
        0, "image size in pixels; 0: `imgsz` of the data yaml, else 640", reader=side_of
    )
    batch_size: int = option(16, "images a batch in evaluation, calibration and training")
    device: str = option("auto", "cpu, cuda, cuda:N or auto")
    workers: int = option(2, "threads that load images ahead; 0: none")
    seed: int = option(0, "seed of every random choice")
    limit: int = option(0, "evaluate on the first N images of val; 0: all")
    single_cls: bool = option(False, "take all labels and all boxes found for one class")
    force: bool = option(False, "redo a finished stage")

    alone: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        want = f"a multiple of the stride, at most {MAX_IMGSZ}"
        require(0 <= self.imgsz <= MAX_IMGSZ, "--imgsz", self.imgsz, want)
        require(self.batch_size >= 1, "--batch-size", self.batch_size, "1 or more")
        require(self.workers >= 0, "--workers", self.workers, "0 or more")
        require(self.limit >= 0, "--limit", self.limit, "0 (all) or more")
        require(0 <= self.seed < 2**32, "--seed", self.seed, "0 to 4294967295")


def require(holds: bool, flag: str, value: Any, want: str) -> None:
    """Raise a UserError that names the flag unless the condition holds."""
    if not holds:
        raise UserError(f"{flag} {value}: must be {want}")


def parse(config: type[C], arguments: Sequence[str] | None = None, program: str = "yoloq") -> C:
    """Make a config from command line flags; `--batch-size` sets `batch_size`."""
    [made] = _parsed((config,), arguments, program)
    return typing.cast(C, made)


def parse_both(
    config: type[C], more: type[D], arguments: Sequence[str] | None = None, program: str = "yoloq"
) -> tuple[C, D]:
    """Make two configs from the flags of one command line; its help describes the first."""
    made = _parsed((config, more), arguments, program)
    return typing.cast(tuple[C, D], tuple(made))


def _parsed(kinds: Sequence[type[Any]], arguments: Sequence[str] | None, program: str) -> list[Any]:
    parser = _Parser(
        program,
        description=summary(kinds[0]),
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    for kind in kinds:
        hints = typing.get_type_hints(kind)
        for item in dataclasses.fields(kind):
            _add_flag(parser, item, hints[item.name])
    given = vars(parser.parse_args(arguments))
    return [kind(**{f.name: given[f.name] for f in dataclasses.fields(kind)}) for kind in kinds]


def summary(config: type[Any]) -> str:
    """What a stage does, in one line: the first of its options' docstring."""
    return (config.__doc__ or "").splitlines()[0]


def _add_flag(parser: argparse.ArgumentParser, item: Any, hint: Any) -> None:
    flag = "--" + item.name.replace("_", "-")
    settings: dict[str, Any] = {"help": item.metadata["help"], "default": item.default}
    if hint is bool or bool in typing.get_args(hint):
        parser.add_argument(flag, action=argparse.BooleanOptionalAction, **settings)
        return
    if item.metadata["reader"]:
        parser.add_argument(flag, nargs="+", action=_AsRead, const=item.metadata, **settings)
        return
    if typing.get_origin(hint) is tuple:
        kind = typing.get_args(hint)[0]
        parser.add_argument(flag, nargs="*", type=kind, action=_AsTuple, **settings)
        return
    if isinstance(hint, types.UnionType):
        hint = next(kind for kind in typing.get_args(hint) if kind is not type(None))
    parser.add_argument(flag, type=hint, choices=item.metadata["choices"], **settings)


class _Parser(argparse.ArgumentParser):
    """Argparse whose errors are one line, like all of yoloq's."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (--help lists the options)")


class _AsRead(argparse.Action):
    """One value of all the words of a flag, such as `--imgsz 640 640`."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: Any = None) -> None:
        text = " ".join(values)
        try:
            setattr(namespace, self.dest, self.const["reader"](text))
        except ValueError as error:
            raise UserError(f"{option_string} {text}: {error}") from None


class _AsTuple(argparse.Action):
    """Keep the values of a repeated flag hashable, as a frozen dataclass wants them."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: Any = None) -> None:
        setattr(namespace, self.dest, tuple(values))
