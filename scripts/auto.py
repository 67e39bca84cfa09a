"""`python -m yoloq auto`: all that a target for the loss of accuracy needs."""

from yoloq.__main__ import main

if __name__ == "__main__":
    raise SystemExit(main("auto"))
