"""`python -m yoloq codebook`: the weights by codebook, in a small file."""

from yoloq.__main__ import main

if __name__ == "__main__":
    raise SystemExit(main("codebook"))
