"""Fine-tune with fake quantization: `python scripts/qat.py --help`."""

from yoloq.__main__ import main
from yoloq.stages.qat.stage import QatConfig, run

if __name__ == "__main__":
    raise SystemExit(main(QatConfig, run))
