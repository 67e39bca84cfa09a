"""`python -m yoloq demo`: every stage on the built-in set."""

from yoloq.__main__ import main

if __name__ == "__main__":
    raise SystemExit(main("demo"))
