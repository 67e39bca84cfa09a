"""`make report`: one table of all that was measured."""

from dataclasses import dataclass

from yoloq.base.config import StageConfig, option


@dataclass(frozen=True)
class ReportConfig(StageConfig):
    """Gather the results of one or more runs into one table."""

    runs: tuple[str, ...] = option((), "run folders; none: the one of --name")
