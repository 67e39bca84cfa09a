"""`python -m yoloq diagnose`: what int8 does to each layer."""

from yoloq.__main__ import main

if __name__ == "__main__":
    raise SystemExit(main("diagnose"))
