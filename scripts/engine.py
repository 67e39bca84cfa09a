"""Build and measure engines: `python scripts/engine.py --help`."""

from yoloq.__main__ import main
from yoloq.stages.engine.stage import EngineConfig, run

if __name__ == "__main__":
    raise SystemExit(main(EngineConfig, run))
