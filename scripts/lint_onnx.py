"""Check an ONNX file against an engine's rules: `python scripts/lint_onnx.py --help`."""

from yoloq.__main__ import main
from yoloq.stages.lint_onnx.stage import LintConfig, run

if __name__ == "__main__":
    raise SystemExit(main(LintConfig, run))
