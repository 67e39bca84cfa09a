"""`python -m yoloq report`: one table of all that was measured."""

from yoloq.__main__ import main

if __name__ == "__main__":
    raise SystemExit(main("report"))
