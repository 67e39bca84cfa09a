"""Time of yolov5n, s and m on OpenVINO: what int8 gains as the network grows."""

from typing import Any

from growth import MODELS, MODELS_LIMITED, random_model
from latency import EngineFile, Load, Timed, time_models
from record import SPREAD, Column, Figure, Found, Table
from subject import WORK, Subject, main

import yoloq
from yoloq.base.errors import UserError
from yoloq.base.machine import isa_flags
from yoloq.engines import get_engine
from yoloq.engines.source import Source

IMGSZ = 640
CALIBRATION_IMAGES = 8
MOST = {"n": 0.90, "s": 0.80, "m": 0.75}  # INT8 / BF16, of CPUs with AMX
COLUMNS = (
    Column("Model"),
    *(Column("FP32 ms", "{:.1f}"), Column("BF16 ms", "{:.1f}"), Column("INT8 ms", "{:.1f}")),
    *(Column("INT8 / FP32", "{:.3f}"), Column("INT8 / BF16", "{:.3f}")),
    Column("Least to largest", SPREAD),
)
HOW = (
    f"Random weights of the published sizes, {{classes}} classes, {IMGSZ} px, raw head, default "
    f"placement, ranges of {CALIBRATION_IMAGES} images and no repairs, which change no time."
)


def measure(subject: Subject) -> Found:
    """INT8 against FP32 and BF16 of each size; the targets are of CPUs with AMX."""
    if "bf16" not in get_engine("openvino").precisions("cpu"):
        raise UserError("sizes: this CPU has no BF16; run it on one that has")
    letters = MODELS_LIMITED if subject.limit else MODELS
    found = {letter: times(subject, letter) for letter in letters}
    rows: list[tuple[Any, ...]] = []
    figures = []
    for letter, timed in found.items():
        half, least = timed.ratio("INT8", "BF16")
        milliseconds = [timed.milliseconds(name)[0] for name in ("FP32", "BF16", "INT8")]
        rows.append((f"yolov5{letter}", *milliseconds, timed.ratio("INT8", "FP32")[0], half, least))
        high = MOST[letter] if "amx_int8" in isa_flags() else None
        note = f"{least[0]:.3f} to {least[1]:.3f}" + ("" if high else "; no AMX here")
        name = f"yolov5{letter}, OpenVINO INT8 / BF16"
        figures.append(Figure(name, half, "{:.3f}", high=high, note=note))
    how = (HOW.format(classes=len(subject.inputs.model.names)), found[letters[0]].how)
    return Found(tuple(figures), (Table("Model size", COLUMNS, tuple(rows)),), how)


def times(subject: Subject, letter: str) -> Timed:
    """Milliseconds of a size's engines, in turn."""
    case = random_model(letter, CALIBRATION_IMAGES)
    model, images = yoloq.load(case.weights), list(subject.inputs.images[:CALIBRATION_IMAGES])
    quantized = yoloq.calibrate(model, images, engine="openvino", imgsz=IMGSZ, refine="none")
    folder, row = WORK / "sizes" / letter, get_engine("openvino")
    folder.mkdir(parents=True, exist_ok=True)
    files: dict[str, Load] = {}
    for precision in ("fp32", "bf16", "int8"):
        source, _ = Source.of(quantized if precision == "int8" else model, IMGSZ)
        file = row.make(source, precision, folder)
        files[precision.upper()] = EngineFile("openvino", precision, file, images[0])
    return time_models([files], bool(subject.limit))


if __name__ == "__main__":
    raise SystemExit(main("sizes", measure, built_in=True))
