"""Find out what quantization does to each layer: `python scripts/diagnose.py --help`."""

from yoloq.cli import main
from yoloq.stages.diagnose import DiagnoseConfig, run

if __name__ == "__main__":
    raise SystemExit(main(DiagnoseConfig, run))
