"""`make table`: one engine in every precision."""

from dataclasses import dataclass

from yoloq.base.config import option
from yoloq.stages.engine import CHOICES, EngineConfig


@dataclass(frozen=True)
class TableConfig(EngineConfig):
    """Run what is missing for the table of one engine, and print it."""

    of: str = option("both", "int8 models; both: a row for PTQ and one for QAT", CHOICES)
