"""Train a detector: `python scripts/train.py --help`."""

from yoloq.__main__ import main
from yoloq.stages.train.stage import TrainConfig, run

if __name__ == "__main__":
    raise SystemExit(main(TrainConfig, run))
