"""Speed: INT8 against the usual FP32 export and against the 16-bit engine, on the CPU's engines."""

from pathlib import Path
from typing import Any

from decoded import DecodedFile, export_decoded
from latency import EngineFile, Load, Timed, time_models
from record import SPREAD, Column, Figure, Found, Table
from subject import Subject, main

from yoloq.base.machine import isa_flags
from yoloq.engines import get_engine
from yoloq.models.heads.anchor import AnchorHead

USUAL = "OpenVINO FP32 with decode"
USUAL_BOXES = "OpenVINO FP32 with decode, image to boxes"
INT8 = "OpenVINO INT8"
INT8_BOXES = "OpenVINO INT8, image to boxes"
TITLES = {"openvino": "OpenVINO", "onnxruntime": "ONNX Runtime"}
COLUMNS = (
    Column("Model"),
    Column("p50 ms", "{:.2f}"),
    Column("Least to largest", SPREAD),
    Column("Against FP32 with decode", "{:.3f}"),
    Column("Least to largest", SPREAD),
)
WHAT = (
    "FP32 with decode is the usual export: float NCHW in, boxes decoded in the graph. The others "
    "take the uint8 image and give the raw head. The last two rows start at the letterboxed uint8 "
    "image and end after NMS at conf 0.25, so that work outside the graph counts."
)


def measure(subject: Subject) -> Found:
    """The ratio of INT8 to FP32 with decode, with its target, and to the 16-bit engine."""
    timed = time_models(models(subject), bool(subject.limit))
    figures = [target_figure(timed), *other_figures(timed)]
    rows: list[tuple[Any, ...]] = []
    for name in timed.names:
        base = USUAL_BOXES if name == INT8_BOXES else USUAL
        rows.append((name, *timed.milliseconds(name), *timed.ratio(name, base)))
    return Found(tuple(figures), (Table("Latency", COLUMNS, tuple(rows)),), (timed.how, WHAT))


def models(subject: Subject) -> list[dict[str, Load]]:
    """What is timed, by runtime."""
    source, image = subject.quantized(refine=()), subject.inputs.images[0]
    groups = [usual_export(subject, image)]
    for engine, title in TITLES.items():
        row = get_engine(engine)
        files: dict[str, Load] = {}
        for precision in row.precisions("cpu"):
            file = row.make(source, precision, subject.folder)
            files[f"{title} {precision.upper()}"] = EngineFile(engine, precision, file, image)
        groups.append(files)
    int8 = subject.folder / "openvino-int8.xml"
    boxes: dict[str, Load] = {INT8_BOXES: EngineFile("openvino", "int8", int8, image, True)}
    usual, openvino, onnxruntime = groups
    alone = {USUAL: usual[USUAL], **openvino}
    return [alone, onnxruntime, {USUAL_BOXES: usual[USUAL_BOXES], **boxes}]


def usual_export(subject: Subject, image: Path) -> dict[str, Load]:
    """The usual export, alone and from image to boxes."""
    info, net = subject.info, subject.inputs.model.net
    assert isinstance(info.head, AnchorHead)
    file = subject.folder / "decoded-fp32.onnx"
    export_decoded(net, info.head, info.imgsz, file)
    return {
        USUAL: DecodedFile(file, image, info.imgsz),
        USUAL_BOXES: DecodedFile(file, image, info.imgsz, (info.conf, info.iou)),
    }


def target_figure(timed: Timed) -> Figure:
    """INT8 over FP32 with decode; the target depends on the processor."""
    flags = isa_flags()
    if "amx_int8" in flags:
        limit, note = 0.5, "with AMX"
    elif any("vnni" in flag for flag in flags):
        limit, note = 0.7, "with VNNI alone"
    else:
        limit, note = None, "no target: neither AMX nor VNNI here"
    return _ratio(timed, INT8, USUAL, note, limit)


def other_figures(timed: Timed) -> list[Figure]:
    """INT8 over the 16-bit engine where there is one, from image to boxes, on ONNX Runtime."""
    half = [f"OpenVINO {kind}" for kind in ("BF16", "FP16")]
    pairs = [(INT8, name) for name in half if name in timed.names]
    pairs += [(INT8_BOXES, USUAL_BOXES), ("ONNX Runtime INT8", "ONNX Runtime FP32")]
    return [_ratio(timed, name, base) for name, base in pairs]


def _ratio(timed: Timed, name: str, base: str, note: str = "", high: float | None = None) -> Figure:
    median, (low, most) = timed.ratio(name, base)
    text = f"{low:.3f} to {most:.3f}" + (f"; {note}" if note else "")
    return Figure(f"{name} / {base}", median, "{:.3f}", high=high, note=text)


if __name__ == "__main__":
    raise SystemExit(main("speed", measure))
