"""Run every stage on the built-in set: `python scripts/demo.py --help`."""

from yoloq.cli import main
from yoloq.stages.demo import DemoConfig, run

if __name__ == "__main__":
    raise SystemExit(main(DemoConfig, run))
