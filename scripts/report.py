"""Print one table of everything that was measured: `python scripts/report.py --help`."""

from yoloq.__main__ import main
from yoloq.stages.report.stage import ReportConfig, run

if __name__ == "__main__":
    raise SystemExit(main(ReportConfig, run))
