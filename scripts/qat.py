"""`python -m yoloq qat`: fine-tune the calibrated model."""

from yoloq.__main__ import main

if __name__ == "__main__":
    raise SystemExit(main("qat"))
