"""Make the built-in data set, or check another one: `python scripts/data.py --data my.yaml`."""

import sys

from yoloq.__main__ import main
from yoloq.stages.data.stage import CheckConfig, run

if __name__ == "__main__":
    sys.exit(main(CheckConfig, run))
