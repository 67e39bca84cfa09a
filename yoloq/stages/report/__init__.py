"""`make report`: what was measured, why one engine is to be shipped, and pictures of it."""

from dataclasses import dataclass
from typing import ClassVar

from yoloq.base.config import StageConfig, option


@dataclass(frozen=True)
class ReportConfig(StageConfig):
    """Write the report of a run, or compare several."""

    runs: tuple[str, ...] = option(
        (), "run folders, or names in --project; several are compared; none: the one of --name"
    )
    open: bool = option(False, "show the page in a browser")

    alone: ClassVar[bool] = False  # it reads what is there by now
