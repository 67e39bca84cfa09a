"""One frozen dataclass a stage: the only definition of its options, their checks and their help."""

import argparse
import dataclasses
import types
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from yoloq.base.errors import UserError
from yoloq.base.square import side_of

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

C = TypeVar("C", bound="DataclassInstance")  # a stage's options; most build on StageConfig

AUTO = "auto"  # the value of an option that something measured decides
DEFAULT_IMGSZ = 640  # pixels, where neither data set nor checkpoint says
MAX_IMGSZ = 8192  # pixels; larger is a slip, and would only run out of memory
ROOT = Path(__file__).resolve().parents[2]


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
class StageConfig:
    """What every stage takes.

    Raises:
        UserError: a value is out of range; the text names the flag.
    """

    weights: str = option(str(ROOT / "weights" / "yolov5n.pt"), "checkpoint (.pt)")
    data: str = option(str(ROOT / "data" / "synthetic.yaml"), "data set (.yaml)")
    imgsz: int = option(
        0, "image size in pixels; 0: `imgsz` of the data yaml, else 640", reader=side_of
    )
    batch_size: int = option(16, "images a batch in evaluation, calibration and training")
    device: str = option("auto", "cpu, cuda, cuda:N or auto")
    workers: int = option(2, "threads that load images ahead; 0: none")
    project: str = option("runs", "folder of the run folders")
    name: str = option("", "run folder; empty: <weights>-<data>")
    seed: int = option(0, "seed of every random choice")
    limit: int = option(0, "evaluate on the first N images of val; 0: all")
    single_cls: bool = option(False, "take all labels and all boxes found for one class")
    force: bool = option(False, "redo a finished stage")

    def __post_init__(self) -> None:
        want = f"a multiple of the stride, at most {MAX_IMGSZ}"
        require(0 <= self.imgsz <= MAX_IMGSZ, "--imgsz", self.imgsz, want)
        require(self.batch_size >= 1, "--batch-size", self.batch_size, "1 or more")
        require(self.workers >= 0, "--workers", self.workers, "0 or more")
        require(self.limit >= 0, "--limit", self.limit, "0 (all) or more")
        require(0 <= self.seed < 2**32, "--seed", self.seed, "0 to 4294967295")
        inside = ".." not in Path(self.name).parts and not Path(self.name).is_absolute()
        require(inside, "--name", self.name, "a folder inside --project")

    @property
    def folder(self) -> Path:
        """The run folder."""
        name = self.name or f"{Path(self.weights).stem}-{Path(self.data).stem}"
        return Path(self.project) / name


def require(holds: bool, flag: str, value: Any, want: str) -> None:
    """Raise a UserError that names the flag unless the condition holds."""
    if not holds:
        raise UserError(f"{flag} {value}: must be {want}")


def parse(config: type[C], arguments: Sequence[str] | None = None, program: str = "yoloq") -> C:
    """Build a config from command line flags; `--batch-size` sets `batch_size`."""
    parser = _Parser(
        program,
        description=summary(config),
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    hints = typing.get_type_hints(config)
    for item in dataclasses.fields(config):
        _add_flag(parser, item, hints[item.name])
    return config(**vars(parser.parse_args(arguments)))


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
