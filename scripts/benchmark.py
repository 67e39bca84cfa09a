"""`python -m yoloq benchmark`: the speed of a run's engines at several batches and streams."""

from yoloq.__main__ import main

if __name__ == "__main__":
    raise SystemExit(main("benchmark"))
