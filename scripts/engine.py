"""Build and measure engines: `python scripts/engine.py --help`."""

from yoloq.cli import main
from yoloq.stages.engine import EngineConfig, run

if __name__ == "__main__":
    raise SystemExit(main(EngineConfig, run))
