"""INT8 for YOLOv5 detectors: what a notebook needs of it.

    import yoloq

    model = yoloq.load("yolov5s.pt")
    quantized = yoloq.calibrate(model, "images/train")
    print(yoloq.evaluate(model, "data.yaml"), yoloq.evaluate(quantized, "data.yaml"))
    detector = yoloq.build(quantized, "openvino", "engines")
    print(detector("photo.jpg"))

Each call is the code of the stage of that name; what it needs is imported when it is called.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from yoloq.measure.detector import Detector
    from yoloq.measure.evaluate import Figures
    from yoloq.models.load import LoadedModel
    from yoloq.quant.policy import Policy
    from yoloq.quant.quantized import QuantizedModel

    Model = LoadedModel | QuantizedModel

__all__ = ["build", "calibrate", "evaluate", "export", "load"]


def load(weights: str | Path) -> "LoadedModel":
    """The fused float model of a checkpoint: YOLOv5's, the ultralytics package's, or yoloq's own.

    Raises:
        UserError: the file cannot be read, or is no detection model that yoloq knows.
    """
    from yoloq.models.load import load_model

    return load_model(weights)


def calibrate(
    model: "LoadedModel",
    images: str | Path | Sequence[str | Path],
    calibrator: str = "mse",
    policy: "Policy | None" = None,
    *,
    engine: str = "auto",
    imgsz: int = 0,
) -> "QuantizedModel":
    """The int8 model: quantizers placed by the policy, ranges from the images.

    Args:
        model: the float model; it stays as it is.
        images: a folder, a list file, or image files; a hundred are enough.
        calibrator: how a range follows from statistics.
        policy: where quantizers go; None: that of `make ptq` for the engine.
        engine: the engine whose placement the default takes.
        imgsz: image size in pixels; 0: that of the checkpoint, else 640.

    Raises:
        UserError: an image list, the calibrator or the policy cannot be used.
    """
    from yoloq.base.config import DEFAULT_IMGSZ
    from yoloq.data.image_files import files_of
    from yoloq.data.loader import iterate
    from yoloq.models.to_input import to_input
    from yoloq.quant.observer import collect
    from yoloq.quant.ptq import calibrate_model
    from yoloq.quant.trace import sibling_groups, trace
    from yoloq.stages.ptq import PtqConfig
    from yoloq.stages.ptq.stage import policy_of_flags

    files, ops = files_of(images), trace(model.net)
    policy = policy or policy_of_flags(PtqConfig(engine=engine), model)
    batches = iterate(files, imgsz or model.imgsz or DEFAULT_IMGSZ, batch_size=16)
    inputs = (to_input(batch.images) for batch in batches)
    collected = collect(model.net, sibling_groups(ops), inputs, len(files))
    return calibrate_model(model, policy, collected, calibrator, ops)[0]


def evaluate(
    model: "Model | Detector", data: str | Path, *, limit: int = 0, imgsz: int = 0
) -> "Figures":
    """mAP on the `val` split of a data yaml, of a model in PyTorch or of a built engine.

    Args:
        limit: the first N images; 0: all.
        imgsz: image size in pixels; 0: that of the data yaml, else of the checkpoint, else 640; an
            engine has its own.

    Raises:
        UserError: the data set cannot be used.
    """
    from yoloq.data.dataset import read_dataset
    from yoloq.engines.torch import predictor_of
    from yoloq.measure.detector import Detector
    from yoloq.measure.evaluate import figures

    dataset = read_dataset(data)
    if isinstance(model, Detector):
        return figures(model.predictor, dataset, limit)
    return figures(predictor_of(model, imgsz or dataset.imgsz or 0), dataset, limit)


def export(model: "Model", file: str | Path, engine: str = "openvino", *, imgsz: int = 0) -> Path:
    """Write the ONNX graph as an engine runs it: Q/DQ of an int8 model, FP32 of a float one.

    Raises:
        UserError: the engine is not known or reads no ONNX, or does not run the quantizers.
    """
    from yoloq.engines import engine_row
    from yoloq.engines.source import Source, save_graph

    source, precision = Source.of(model, imgsz)
    return save_graph(engine_row(engine).graph(source, precision), Path(file))


def build(
    model: "Model",
    engine: str = "auto",
    folder: str | Path = ".",
    precision: str = "",
    *,
    device: str = "auto",
    threads: int = 0,
    imgsz: int = 0,
) -> "Detector":
    """Build an engine into a folder and open it; called with images it gives named boxes.

    Args:
        precision: as the engine calls it; empty: int8 of a calibrated model, else fp32.
        threads: of the engine; 0: as many as cores.

    Raises:
        UserError: the engine's package or the device is missing, or it does not run the model.
    """
    from yoloq.base.machine import affinity
    from yoloq.engines import get_engine
    from yoloq.engines.source import Source
    from yoloq.measure.detector import Detector

    row = get_engine(engine, device)
    source, usual = Source.of(model, imgsz, device)
    precision = precision or usual
    Path(folder).mkdir(parents=True, exist_ok=True)
    file = row.make(source, precision, Path(folder))
    return Detector(row.load(file, precision, device, threads or len(affinity())))
