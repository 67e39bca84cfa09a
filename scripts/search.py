"""`python -m yoloq search`: the placement that is fastest at the accuracy asked for."""

from yoloq.__main__ import main

if __name__ == "__main__":
    raise SystemExit(main("search"))
