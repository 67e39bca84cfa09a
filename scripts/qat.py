"""Fine-tune with fake quantization: `python scripts/qat.py --help`."""

from yoloq.cli import main
from yoloq.stages.qat import QatConfig, run

if __name__ == "__main__":
    raise SystemExit(main(QatConfig, run))
