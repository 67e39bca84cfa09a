"""Quantize without training: `python scripts/ptq.py --help`."""

from yoloq.cli import main
from yoloq.stages.ptq import PtqConfig, run

if __name__ == "__main__":
    raise SystemExit(main(PtqConfig, run))
