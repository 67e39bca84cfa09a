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

__all__ = ["build", "calibrate", "evaluate", "export", "load", "load_quantized", "open_engine"]


def load(weights: str | Path) -> "LoadedModel":
    """The fused float model of a checkpoint: YOLOv5's, the ultralytics package's, or yoloq's own.

    A file of `make codebook` is read as well.

    Raises:
        UserError: the file cannot be read, holds an int8 model (`load_quantized` reads it), or is
            no detection model that yoloq knows.
    """
    from yoloq.base.errors import CheckpointError
    from yoloq.quant.float_weights import load_weights
    from yoloq.quant.quantized import is_quantized

    model = load_weights(weights)
    if is_quantized(model):
        raise CheckpointError(f"{weights}: holds an int8 model; yoloq.load_quantized reads it")
    return model


def load_quantized(file: str | Path) -> "QuantizedModel":
    """The int8 model in a `ptq.pt` or `qat.pt` of a run folder.

    Raises:
        UserError: the file cannot be read, or holds no int8 model.
    """
    from yoloq.quant.quantized import load_quantized

    return load_quantized(Path(file))


def calibrate(
    model: "LoadedModel",
    images: str | Path | Sequence[str | Path],
    calibrator: str = "",
    policy: "Policy | None" = None,
    *,
    engine: str = "auto",
    imgsz: int = 0,
    count: int = 0,
    refine: str = "",
) -> "QuantizedModel":
    """The int8 model: quantizers placed by the policy, ranges from the images.

    Args:
        model: the float model; it stays as it is.
        images: a folder, a list file, or image files.
        calibrator: how a range follows from statistics; empty: as `make ptq` does.
        policy: where quantizers go; None: that of `make ptq` for the engine.
        engine: the engine whose placement the default takes.
        imgsz: image size in pixels; 0: that of the checkpoint, else 640.
        count: how many of the images are drawn; 0: as many as `make ptq` does.
        refine: repairs as `make ptq --refine` takes them; empty: its default.

    Raises:
        UserError: an image list, the calibrator, the policy or a repair cannot be used.
    """
    from dataclasses import replace

    from yoloq.data.image_files import files_of
    from yoloq.quant.ptq import check_calibrator
    from yoloq.stages.ptq import PtqConfig
    from yoloq.stages.ptq.front_door import quantized_in_memory, repairs_of

    usual = PtqConfig(engine=engine)
    check_calibrator(calibrator or usual.calibrator)
    usual = replace(
        usual,
        calibrator=calibrator or usual.calibrator,
        refine=repairs_of(refine, usual.refine),
        images=count or usual.images,
    )
    return quantized_in_memory(model, files_of(images), policy, usual, imgsz)


def evaluate(
    model: "Model | Detector",
    data: str | Path,
    *,
    limit: int = 0,
    imgsz: int = 0,
    device: str = "auto",
    single_cls: bool = False,
) -> "Figures":
    """mAP on the `val` split of a data yaml, of a model in PyTorch or of a built engine.

    Args:
        limit: the first N images; 0: all.
        imgsz: image size in pixels; 0: that of the data yaml, else of the checkpoint, else 640; an
            engine has its own.
        device: where a model in PyTorch runs; it stays where it is.
        single_cls: take all labels and all boxes found for one class.

    Raises:
        UserError: the data set cannot be used, or is not the model's.
    """
    from yoloq.data.dataset import read_dataset
    from yoloq.engines.torch import predictor_of
    from yoloq.measure.detector import Detector
    from yoloq.measure.evaluate import figures

    dataset = read_dataset(data)
    dataset = dataset.as_one_class() if single_cls else dataset
    if isinstance(model, Detector):
        return figures(model.predictor, dataset, limit)
    return figures(predictor_of(model, imgsz or dataset.imgsz or 0, device), dataset, limit)


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
    streams: int = 1,
    imgsz: int = 0,
) -> "Detector":
    """Build an engine into a folder and open it; called with images it gives named boxes.

    A list of images is read and its boxes found while the engine runs. More streams give more
    images a second and take longer for one: each has its share of the threads.

    Args:
        precision: as the engine calls it; empty: int8 of a calibrated model, else fp32.
        threads: of the engine; 0: as many as cores.
        streams: images in the engine at once; at most the threads.

    Raises:
        UserError: the engine's package or the device is missing, or it does not run the model or
            so many images at once.
    """
    from yoloq.base.config import require
    from yoloq.base.errors import EngineError
    from yoloq.base.machine import affinity
    from yoloq.base.own_files import MAKE
    from yoloq.engines import get_engine
    from yoloq.engines.source import Source
    from yoloq.measure.detector import Detector

    row = get_engine(engine, device)
    source, usual = Source.of(model, imgsz, device)
    precision = precision or usual
    row.check_precision(precision, device)
    cores = threads or len(affinity())
    require(1 <= streams <= cores, "--streams", streams, f"1 to {cores}, the threads")
    row.check_streams(streams)
    if precision == "int8" != usual:
        raise EngineError("--precisions int8: this model is float; yoloq.calibrate it first")
    if row.calibrates(precision):
        raise EngineError(f"--precisions {precision}: needs images; {MAKE} engine calibrates it")
    Path(folder).mkdir(parents=True, exist_ok=True)
    file = row.make(source, precision, Path(folder))
    return Detector(*row.load_streams(file, precision, device, cores, streams))


def open_engine(
    run: str | Path,
    engine: str = "auto",
    precision: str = "auto",
    *,
    device: str = "auto",
    threads: int = 0,
    streams: int = 1,
) -> "Detector":
    """Open an engine that `make engine` wrote into a run folder.

    On another CPU than it was built on, or with another version of its package, it is held against
    its ONNX once more on a few images that lie beside it.

    Args:
        run: the run folder.
        engine: its name; auto: the first that the run has.
        precision: as the engine calls it; auto: int8 where there is one.
        threads: of the engine; 0: as many as cores.
        streams: images in the engine at once; at most the threads.

    Raises:
        UserError: the run has no such engine, its files were changed, or it computes something
            else here.
    """
    from yoloq.base.config import RunConfig, require
    from yoloq.base.machine import affinity
    from yoloq.measure.detector import Detector
    from yoloq.stages.built import choose, engines_of, result_with, results_of

    folder = Path(run).absolute()
    config = RunConfig(project=str(folder.parent), name=folder.name)
    cores = threads or len(affinity())
    require(1 <= streams <= cores, "--streams", streams, f"1 to {cores}, the threads")
    result = result_with(results_of(config, engine), precision)
    built = choose(engines_of(config, result, device), precision)
    return Detector(*built.load(device, cores, streams))
