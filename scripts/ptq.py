"""`python -m yoloq ptq`: calibrate."""

from yoloq.__main__ import main

if __name__ == "__main__":
    raise SystemExit(main("ptq"))
