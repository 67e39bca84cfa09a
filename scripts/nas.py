"""`python -m yoloq nas`: which width, depth, activation and bits a data set is served best with."""

from yoloq.__main__ import main

if __name__ == "__main__":
    raise SystemExit(main("nas"))
