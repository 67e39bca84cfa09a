"""The course's table of one engine: `python scripts/table.py --help`."""

from yoloq.cli import main
from yoloq.stages.table import TableConfig, run

if __name__ == "__main__":
    raise SystemExit(main(TableConfig, run))
