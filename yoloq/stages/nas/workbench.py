"""What a candidate goes through: short training, calibration, accuracy, an engine, its time."""

import time
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from yoloq.base.files import temporary_folder
from yoloq.base.journal import Journal
from yoloq.base.machine import torch_device
from yoloq.base.say import say
from yoloq.engines.base import Engine
from yoloq.engines.predictor import ModelInfo, Predictor
from yoloq.engines.source import Source
from yoloq.engines.torch import TorchPredictor
from yoloq.geometry.detections import Detections
from yoloq.measure.ap import Score, score
from yoloq.measure.latency import measure_predictors
from yoloq.measure.synflow import synflow
from yoloq.models.load import LoadedModel, load_model, save_model
from yoloq.quant.packed_file import packed_size
from yoloq.quant.quantized import QuantizedModel
from yoloq.stages.nas import NasConfig
from yoloq.stages.nas.nas_lines import Clocked, Judged, Trained
from yoloq.stages.nas.network_space import Architecture, Candidate
from yoloq.stages.ptq import PtqConfig
from yoloq.stages.ptq.apart import calibrated_apart
from yoloq.stages.ptq.repaired import repair
from yoloq.stages.row import find
from yoloq.stages.run import Inputs, as_config
from yoloq.stages.train import TrainConfig
from yoloq.stages.train.stage import WEIGHTS, half_convolutions, read_pictures, train_on
from yoloq.train.samples import Pictures
from yoloq.train.start import fresh

FAMILY = "yolov5"
CHECKPOINTS = "nas"  # folder of all trained candidates, in the run folder
CALIBRATION, REPAIR = 32, 16  # images
CALIBRATOR = "mse"  # a network of few epochs finds few boxes, by whose influence others choose
WHOLE = 8  # bits of weights that an engine runs
WARMUP = 5  # runs that are not counted


@dataclass(frozen=True)
class Workbench:
    """Measures candidates, each once.

    Attributes:
        inputs: with the model that times are held against, at the size that is deployed.
        small: the same at the size of training and accuracy, with the images that count.
        kept: folder of that model's engine, which is built once.
        threads: of engines.
    """

    inputs: Inputs
    small: Inputs
    config: NasConfig
    engine: Engine
    journal: Journal
    kept: Path
    threads: int

    def test(self, candidate: Candidate) -> Judged:
        """What a candidate comes to, measured now or before."""
        known = self.journal.find(Judged, candidate.name)
        if known and self.journal.find(Clocked, candidate.architecture.name):
            return known
        model = self.trained(candidate.architecture)
        quantized = self.quantized(model, candidate.bits)
        self._clock(candidate.architecture, model, quantized)
        net = quantized.model.net
        found = self._score(model, net)
        size = packed_size(quantized)
        line = Judged(candidate.name, found.map50_95, found.map50, size)
        self.journal.append(line)
        say(f"{candidate.name}: {100 * line.map50_95:.2f} AP50-95 in int8, {size / 1e6:.2f} MB")
        return line

    def checkpoint(self, architecture: Architecture) -> Path:
        """Where the trained network is kept."""
        return self.config.folder / CHECKPOINTS / architecture.name / WEIGHTS

    def trained(self, architecture: Architecture) -> LoadedModel:
        """The network after its short training, done now or before; fused."""
        known, file = self.journal.find(Trained, architecture.name), self.checkpoint(architecture)
        if known is None or not file.exists():
            self._train(architecture)
        return load_model(file)

    def _train(self, architecture: Architecture) -> None:
        began, config = time.perf_counter(), self.training(architecture)
        names = self.inputs.dataset.names
        torch.manual_seed(config.seed)
        model = fresh(FAMILY, architecture.spec(len(names)), names)
        flow, parameters = synflow(model.net), sum(p.numel() for p in model.net.parameters())
        say(f"{architecture.name}: {parameters / 1e6:.2f} M parameters, training")
        inputs = replace(self.small, config=config, model=model)
        train_on(self.pictures, inputs, config)
        for left in config.folder.glob("train-state.*"):
            left.unlink()
        trained = load_model(self.checkpoint(architecture))
        reached = self._score(trained, trained.net).map50_95
        seconds = time.perf_counter() - began
        self.journal.append(Trained(architecture.name, parameters, flow, reached, seconds))

    def training(self, architecture: Architecture) -> TrainConfig:
        """The options of a short training: one size, few steps of warm-up."""
        config = self.config
        return as_config(
            config,
            TrainConfig,
            weights="scratch",
            family=FAMILY,
            project=str(config.folder / CHECKPOINTS),
            name=architecture.name,
            imgsz=self.small.imgsz,
            warmup=min(1.0, config.epochs / 5),
            multi_scale=(1.0, 1.0),
            settle=0,
        )

    @cached_property
    def pictures(self) -> Pictures:
        """The images that all candidates are trained on, read once."""
        config = self.config
        dataset = self.inputs.dataset
        return read_pictures(dataset, self.small.imgsz, config.train_images, config.seed)

    def quantized(self, model: LoadedModel, bits: int) -> QuantizedModel:
        """A model calibrated as `make ptq` does it, on few images.

        Repairs take as long as the training. They are left out where they change no rank: with 8
        bits they gain a hundredth of fidelity, with 4 most of it.
        """
        ptq = as_config(
            self.config,
            PtqConfig,
            engine=self.engine.name,
            images=CALIBRATION,
            calibrator=CALIBRATOR,
            refine=PtqConfig().refine if bits < WHOLE else (),
            refine_images=REPAIR,
            weight_bits=bits,
        )
        inputs = replace(self.small, model=model)
        made, files = calibrated_apart(inputs, ptq)
        if ptq.refine:
            repair(inputs, ptq, made, files)
        return made

    def _score(self, model: LoadedModel, net: torch.nn.Module) -> Score:
        """Accuracy of a network of a model, which may have been quantized."""
        inputs = replace(self.small, model=model)
        predictor = TorchPredictor(net, inputs.info, torch_device(self.config.device), "fp32")
        found: Detections = find(inputs, predictor)
        net.cpu()
        return score(inputs.truth, found, inputs.nc)

    def _clock(
        self, architecture: Architecture, model: LoadedModel, quantized: QuantizedModel
    ) -> None:
        """Time a network's int8 engine; weights of fewer bits are int8 to it."""
        if self.journal.find(Clocked, architecture.name):
            return
        with temporary_folder(self.config.folder, "nas") as folder:
            this = self._loaded(model, quantized, folder)
            both = {"this": this, "reference": self.reference}
            size = self.inputs.imgsz
            shape = (1, size, size, 3)
            image = np.random.default_rng(self.config.seed).integers(0, 256, shape, np.uint8)
            times = measure_predictors(both, image, self.config.runs, WARMUP, self.threads)
        line = Clocked(architecture.name, times["this"].p50, times["reference"].p50)
        self.journal.append(line)
        say(f"{line.name}: int8 {line.ms:.2f} ms, that of --weights {line.reference_ms:.2f}")

    @cached_property
    def reference(self) -> Predictor:
        """The int8 engine of the model that times are held against."""
        model = self.inputs.model
        return self._loaded(model, self.quantized(model, WHOLE), self.kept)

    def _loaded(self, model: LoadedModel, quantized: QuantizedModel, folder: Path) -> Predictor:
        info = ModelInfo(model.head, model.names, self.inputs.imgsz)
        source = Source(info, model, quantized, device=self.config.device)
        file = self.engine.make(source, "int8", folder)
        return self.engine.load(file, "int8", self.config.device, self.threads)

    def write(self, architecture: Architecture, file: Path) -> None:
        """Copy a trained network to an ordinary checkpoint for the size that is deployed."""
        model = load_model(self.checkpoint(architecture), fuse=False)
        model = replace(model, net=half_convolutions(model.net), imgsz=self.inputs.imgsz)
        save_model(file, model)
