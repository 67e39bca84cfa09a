"""Rank layers by what int8 costs and gains: `python scripts/sensitivity.py --help`."""

from yoloq.__main__ import main
from yoloq.stages.sensitivity.stage import SensitivityConfig, run

if __name__ == "__main__":
    raise SystemExit(main(SensitivityConfig, run))
