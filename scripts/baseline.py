"""Measure the FP32 checkpoint: `python scripts/baseline.py --help`."""

from yoloq.__main__ import main
from yoloq.stages.baseline.stage import BaselineConfig, run

if __name__ == "__main__":
    raise SystemExit(main(BaselineConfig, run))
