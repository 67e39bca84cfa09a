"""`python -m yoloq data`: make the built-in set, or check another."""

from yoloq.__main__ import main

if __name__ == "__main__":
    raise SystemExit(main("data"))
