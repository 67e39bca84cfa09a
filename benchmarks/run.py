"""Measure everything, then write the tables: what `make bench` runs.

    python benchmarks/run.py [--only speed,calibration] [--limit 20]

Each part is a script of its own and runs in a process of its own. With YOLOQ_COCO_MINI set the
subject is the official yolov5n on real images, with YOLOQ_CROPS set a data set with its own
checkpoint beside it, else the built-in weights and set.
"""

import argparse
import subprocess
import sys

from record import FOLDER

PARTS = {  # in the order they run; a part is benchmarks/<name>.py
    "accuracy": "raw heads, FP32, INT8 on the engines, engine against fake quantization",
    "settings": "calibrators, granularity and placement side by side",
    "speed": "INT8 against the usual FP32 export and the 16-bit engine",
    "reach": "INT8 on each runtime that is installed: accuracy, fidelity to the simulation, time",
    "whole_path": "from image files to boxes, one after another and several under way",
    "profile_layers": "what each layer takes in int8 and in the 16-bit type",
    "sweep": "sensitivity: what reuse saves, and the blocks in order",
    "diagnosis": "the worst layers, and whether planted faults are named",
    "calibration": "seconds of calibrating against a plain forward pass",
    "evaluation": "seconds of evaluating against the engine's own calls",
    "box_error": "calibrators and repairs by how far boxes are off",
    "adaptive": "ranges that follow the image, on dark, blurred and noisy images",
    "qat_step": "a step of QAT against a step of FP32 training",
    "qat_gain": "PTQ against QAT in easy and hard settings",
    "below_eight": "what repairs of PTQ and options of QAT gain at 8 bits and below (hours)",
    "qat_options": "what dampening, freezing and batch norm's statistics change in QAT",
    "peers": "NNCF, ModelOpt and ONNX Runtime's own quantization",
    "lint_peers": "what the linter finds for TensorRT in the peers' exports",
    "growth": "time and peak memory of every stage against images and model size",
    "sizes": "int8 against 16 bits and FP32 for yolov5n, s and m",
    "demo_time": "wall-clock of make demo",
}


def main() -> int:
    """Run the chosen parts; 1 where one of them failed (a missed target is no failure)."""
    parts = "; ".join(f"{name}: {what}" for name, what in PARTS.items())
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0], epilog=parts)
    parser.add_argument("--only", default=",".join(PARTS), help="parts, separated by commas")
    parser.add_argument("--limit", type=int, default=0, help="first N images only, to try it out")
    options = parser.parse_args()
    chosen = options.only.split(",")
    unknown = [name for name in chosen if name not in PARTS]
    if unknown:
        print(f"error: --only {unknown[0]}: not one of {', '.join(PARTS)}", file=sys.stderr)
        return 2
    failed = [name for name in chosen if run(name, options.limit)]
    if not options.limit:
        subprocess.run([sys.executable, FOLDER / "tables.py"], check=True)
    if failed:
        print(f"error: failed: {', '.join(failed)}; see above", file=sys.stderr)
    return int(bool(failed))


def run(name: str, limit: int) -> int:
    """Exit code of one part."""
    print(f"== {name}: {PARTS[name]}", flush=True)
    return subprocess.run([sys.executable, FOLDER / f"{name}.py", "--limit", str(limit)]).returncode


if __name__ == "__main__":
    raise SystemExit(main())
