"""The course's table of one engine: `python scripts/table.py --help`."""

from yoloq.__main__ import main
from yoloq.stages.table.stage import TableConfig, run

if __name__ == "__main__":
    raise SystemExit(main(TableConfig, run))
