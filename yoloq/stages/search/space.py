"""What is searched: placements as points, and their neighbours."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import get_args

from yoloq.engines.base import Defaults
from yoloq.quant.policy import Policy, Residual, Rule
from yoloq.quant.spec import WEIGHT, QuantSpec
from yoloq.stages.sensitivity.candidates import block_number

SIGNS = {True: "symmetric", False: "asymmetric"}


@dataclass(frozen=True)
class Point:
    """A placement.

    Attributes:
        symmetric: the activations' ranges.
        residual: as in a policy.
        mixed: each block has the calibrator that serves it best, not the first one.
        floats: blocks in float, in the order of the network.
    """

    symmetric: bool
    residual: Residual
    mixed: bool
    floats: tuple[str, ...]

    @property
    def name(self) -> str:
        """In words, unique."""
        parts = [SIGNS[self.symmetric]]
        parts += [f"residual {self.residual}"] if self.residual != "none" else []
        parts += ["calibrators mixed"] if self.mixed else []
        return ", ".join([*parts, f"float {spans(self.floats) or 'nothing'}"])


def spans(blocks: Sequence[str]) -> str:
    """Blocks by number, neighbours joined: `0-2 24` of model.0, model.1, model.2 and model.24."""
    runs: list[list[int]] = []
    for number in map(block_number, blocks):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return " ".join(str(run[0]) + (f"-{run[-1]}" if len(run) > 1 else "") for run in runs)


@dataclass(frozen=True)
class Space:
    """All placements that an engine offers for a network.

    Attributes:
        blocks: those that hold convolutions, in order; the first reads the image.
        usual: what the engine runs well.
        calibrators: by block, for each symmetry: the one that serves it best.
        first: the calibrator of points that mix none.
    """

    blocks: tuple[str, ...]
    usual: Defaults
    calibrators: Mapping[bool, Mapping[str, str]]
    first: str

    @property
    def symmetries(self) -> tuple[bool, ...]:
        """Which ranges the engine runs, its own first."""
        own = self.usual.symmetric
        return (own, not own) if self.usual.zero_points else (True,)

    @cached_property
    def mixes(self) -> bool:
        """Whether any block is served best by another calibrator than the first."""
        return any(set(best.values()) - {self.first} for best in self.calibrators.values())

    @property
    def default(self) -> Point:
        """What `make ptq` does."""
        usual = self.usual
        floats = self.ordered({*self.blocks[: usual.float_first], self.blocks[-1]})
        return Point(usual.symmetric, usual.residual, False, floats)

    def ordered(self, floats: set[str]) -> tuple[str, ...]:
        """Blocks in the order of the network."""
        return tuple(block for block in self.blocks if block in floats)

    def policy(self, point: Point) -> Policy:
        """A point as rules: everything, the image, calibrators, what stays in float."""
        spec = QuantSpec(symmetric=point.symmetric)
        rules = [Rule("*", WEIGHT, spec, self.first)]
        if self.usual.zero_points and point.symmetric:
            rules.append(Rule(self.blocks[0], WEIGHT, QuantSpec(symmetric=False), self.first))
        if point.mixed:
            best = self.calibrators[point.symmetric]
            rules += [
                Rule(block, WEIGHT, spec, best[block])
                for block in self.blocks[1:]
                if best[block] != self.first and block not in point.floats
            ]
        rules += [Rule(block, None, None) for block in point.floats]
        return Policy(tuple(rules), self.usual.sharing, point.residual)

    def neighbours(self, point: Point, order: Sequence[str]) -> Iterator[Point]:
        """Points that differ in one thing, the most promising first; each has a block in int8.

        Args:
            order: blocks by what float gains there for its time, the most first.
        """
        inside = [block for block in order if block in point.floats]
        outside = [block for block in order if block not in point.floats]
        for block in inside[::-1][:2]:
            yield replace(point, floats=self.ordered({*point.floats} - {block}))
        for block in outside[:2] if len(outside) > 1 else []:
            yield replace(point, floats=self.ordered({*point.floats, block}))
        if self.mixes:
            yield replace(point, mixed=not point.mixed)
        for residual in get_args(Residual):
            if residual != point.residual:
                yield replace(point, residual=residual)
        for symmetric in self.symmetries:
            if symmetric != point.symmetric:
                yield replace(point, symmetric=symmetric)
