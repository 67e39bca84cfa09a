"""Run every stage on the built-in set: `python scripts/demo.py --help`."""

from yoloq.__main__ import main
from yoloq.stages.demo.stage import DemoConfig, run

if __name__ == "__main__":
    raise SystemExit(main(DemoConfig, run))
