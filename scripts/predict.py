"""`python -m yoloq predict`: boxes of images, a video or a camera by an engine of a run."""

from yoloq.__main__ import main

if __name__ == "__main__":
    raise SystemExit(main("predict"))
