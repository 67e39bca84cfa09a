"""`python -m yoloq baseline`: FP32 accuracy and speed."""

from yoloq.__main__ import main

if __name__ == "__main__":
    raise SystemExit(main("baseline"))
