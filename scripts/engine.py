"""`python -m yoloq engine`: build, gate, measure and time engines."""

from yoloq.__main__ import main

if __name__ == "__main__":
    raise SystemExit(main("engine"))
