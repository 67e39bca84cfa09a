"""Make the built-in data set, or check another one: `python scripts/data.py --data my.yaml`."""

import sys

from yoloq.cli import main
from yoloq.data.check import CheckConfig, run

if __name__ == "__main__":
    sys.exit(main(CheckConfig, run))
