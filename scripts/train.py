"""`python -m yoloq train`: train a detector."""

from yoloq.__main__ import main

if __name__ == "__main__":
    raise SystemExit(main("train"))
