"""`python -m yoloq sensitivity`: which layers int8 hurts."""

from yoloq.__main__ import main

if __name__ == "__main__":
    raise SystemExit(main("sensitivity"))
