"""From a checkpoint to an engine within a target: `python scripts/auto.py --help`."""

from yoloq.__main__ import main
from yoloq.stages.auto.stage import AutoConfig, run

if __name__ == "__main__":
    raise SystemExit(main(AutoConfig, run))
