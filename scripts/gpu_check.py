"""`python -m yoloq gpu-check`: all that only a GPU can tell, in one file."""

from yoloq.__main__ import main

if __name__ == "__main__":
    raise SystemExit(main("gpu_check"))
