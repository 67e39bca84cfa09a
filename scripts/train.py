"""Train a detector: `python scripts/train.py --help`."""

from yoloq.cli import main
from yoloq.stages.train import TrainConfig, run

if __name__ == "__main__":
    raise SystemExit(main(TrainConfig, run))
