"""Measure the FP32 checkpoint: `python scripts/baseline.py --help`."""

from yoloq.cli import main
from yoloq.stages.baseline import BaselineConfig, run

if __name__ == "__main__":
    raise SystemExit(main(BaselineConfig, run))
