"""What the stages have in common that train a network to imitate a float one: qat and swap."""

from dataclasses import dataclass
from typing import ClassVar

from yoloq.base.config import AUTO, TOGETHER, StageConfig, count_or_auto, option, require

LEARNING_RATES = {"adamw": 3e-4, "sgd": 1e-4}  # of sgd 1% of what detectors are trained with
CPU_IMAGES = 400  # an epoch, where `auto` decides: ten at 320 pixels take minutes on two cores
NOT_NEGATIVE = (
    *("train_images", "lr", "weight_decay", "warmup", "val_images", "temperature"),
    *("feature_weight", "head_weight", "detection_weight"),
)


@dataclass(frozen=True)
class TuneConfig(StageConfig):
    """The options of such a stage."""

    epochs: int = option(10, "passes over the images; about a tenth of what training took")
    train_images: int = option(0, "images of train, drawn by --seed; 0: all")
    epoch_images: int | str = option(
        0, "images of these an epoch, others each time; 0: all", reader=count_or_auto
    )
    lr: float = option(
        0.0, "largest learning rate, of adamw as a share of a layer's size; 0: 3e-4, of sgd 1e-4"
    )
    optimizer: str = option("adamw", "optimizer", ("adamw", "sgd"))
    weight_decay: float = option(5e-4, "weight decay of convolution weights")
    warmup: float = option(1.0, "epochs in which the learning rate rises")
    clip: float = option(10.0, "largest norm of a step's gradient")
    average: float = option(0.25, "evaluate and keep weights averaged over this share of the run")
    temperature: float = option(0.0, "soften the teacher's scores; 0: compare logits")
    feature_weight: float = option(1.0, "weight of the blocks' outputs in distillation")
    feature_focus: float = option(
        0.0, "part of it that is distributed over places by the teacher's scores, 0 to 1"
    )
    head_weight: float = option(1.0, "weight of the raw head in distillation")
    detection_weight: float = option(1.0, "weight of the teacher's boxes in distillation")
    best: str = option("fidelity", "which epoch is kept", ("fidelity", "map"))
    val_images: int = option(0, "measure each epoch on the first N images of val; 0: all")
    scale: float = option(0.25, "augmentation: largest change of size")
    fliplr: float = option(0.5, "augmentation: probability of a mirror image")
    flipud: float = option(0.0, "augmentation: probability of an upside-down image")
    hsv: tuple[float, ...] = option((0.015, 0.4, 0.3), "augmentation: largest colour gains")

    torchrun: ClassVar[str] = TOGETHER

    def __post_init__(self) -> None:
        super().__post_init__()
        least = self.least_epochs
        require(self.epochs >= least, "--epochs", self.epochs, f"{least} or more")
        require(0 <= self.average <= 1, "--average", self.average, "from 0 to 1")
        require(self.clip > 0, "--clip", self.clip, "above 0")
        self.check_not_negative(NOT_NEGATIVE)
        for flag, value in {"--fliplr": self.fliplr, "--flipud": self.flipud}.items():
            require(0 <= value <= 1, flag, value, "between 0 and 1")
        require(0 <= self.feature_focus <= 1, "--feature-focus", self.feature_focus, "from 0 to 1")
        require(0 <= self.scale < 1, "--scale", self.scale, "0 or more and below 1")
        good = len(self.hsv) == 3 and all(0 <= gain < 1 for gain in self.hsv)
        require(good, "--hsv", " ".join(map(str, self.hsv)), "three numbers from 0 to below 1")

    def check_not_negative(self, names: tuple[str, ...]) -> None:
        """Check options by name.

        Raises:
            UserError: one is below 0; names its flag.
        """
        for name in names:
            value = getattr(self, name)
            require(value >= 0, "--" + name.replace("_", "-"), value, "0 or more")

    def images_an_epoch(self, device: str) -> int:
        """Images an epoch at most on a kind of device, such as cpu; 0: all that there are."""
        if self.epoch_images == AUTO:
            return CPU_IMAGES if device == "cpu" else 0
        return int(self.epoch_images)

    @property
    def least_epochs(self) -> int:
        """Fewer make no sense."""
        return 1

    @property
    def learning_rate(self) -> float:
        """The flag's, or the optimizer's usual one."""
        return self.lr or LEARNING_RATES[self.optimizer]
