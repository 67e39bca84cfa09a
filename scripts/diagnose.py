"""Find out what quantization does to each layer: `python scripts/diagnose.py --help`."""

from yoloq.__main__ import main
from yoloq.stages.diagnose.stage import DiagnoseConfig, run

if __name__ == "__main__":
    raise SystemExit(main(DiagnoseConfig, run))
