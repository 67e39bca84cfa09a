"""`python -m yoloq lint-onnx`: a graph against the rules of an engine."""

from yoloq.__main__ import main

if __name__ == "__main__":
    raise SystemExit(main("lint_onnx"))
