"""`python -m yoloq table`: one engine in every precision."""

from yoloq.__main__ import main

if __name__ == "__main__":
    raise SystemExit(main("table"))
