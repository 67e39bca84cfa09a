"""`python -m yoloq swap`: another activation in the place of SiLU."""

from yoloq.__main__ import main

if __name__ == "__main__":
    raise SystemExit(main("swap"))
