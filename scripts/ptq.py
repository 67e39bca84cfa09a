"""Quantize without training: `python scripts/ptq.py --help`."""

from yoloq.__main__ import main
from yoloq.stages.ptq.stage import PtqConfig, run

if __name__ == "__main__":
    raise SystemExit(main(PtqConfig, run))
