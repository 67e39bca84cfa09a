"""The options of `make qat`."""

from dataclasses import dataclass

from yoloq.base.config import StageConfig, option, require
from yoloq.base.errors import UserError

LEARNING_RATES = {"adamw": 3e-4, "sgd": 1e-4}  # of sgd 1% of what detectors are trained with

NOT_NEGATIVE = (
    *("train_images", "lr", "weight_decay", "warmup", "range_lr", "bn_reestimate", "temperature"),
    *("feature_weight", "head_weight", "detection_weight", "task_weight", "dampen"),
    *("freeze_oscillating", "val_images"),
)


@dataclass(frozen=True)
class QatConfig(StageConfig):
    """Fine-tune the calibrated model with fake quantization (QAT)."""

    epochs: int = option(10, "passes over the images; about a tenth of what training took")
    train_images: int = option(0, "images of train, drawn by --seed; 0: all")
    lr: float = option(
        0.0, "largest learning rate, of adamw as a share of a layer's size; 0: 3e-4, of sgd 1e-4"
    )
    optimizer: str = option("adamw", "optimizer", ("adamw", "sgd"))
    weight_decay: float = option(5e-4, "weight decay of convolution weights")
    warmup: float = option(1.0, "epochs in which the learning rate rises")
    clip: float = option(10.0, "largest norm of a step's gradient")
    average: float = option(0.25, "evaluate and keep weights averaged over this share of the run")
    ranges: str = option("frozen", "ranges of activations", ("frozen", "learned", "ema"))
    range_lr: float = option(10.0, "learned ranges: change a step against --lr (adamw)")
    bn: str = option(
        "fold", "batch norm: folded, or kept with frozen statistics", ("fold", "freeze")
    )
    bn_reestimate: int = option(0, "re-estimate its statistics on N batches (--bn freeze)")
    loss: str = option("distill", "what is minimised", ("distill", "task", "both"))
    teacher: str = option("", "float checkpoint to distill from; empty: that of --weights")
    temperature: float = option(0.0, "soften the teacher's scores; 0: compare logits")
    feature_weight: float = option(1.0, "weight of the blocks' outputs in distillation")
    head_weight: float = option(1.0, "weight of the raw head in distillation")
    detection_weight: float = option(1.0, "weight of the teacher's boxes in distillation")
    task_weight: float = option(1.0, "weight of the task's loss")
    only: tuple[str, ...] = option((), "layers to train, names or patterns; none: all")
    dampen: float = option(0.0, "weight of oscillation dampening; 0: off")
    freeze_oscillating: float = option(0.0, "freeze weights that oscillate oftener; 0: off")
    amp: str = option("off", "mixed precision; on is refused, it would break scales", ("off", "on"))
    best: str = option("fidelity", "which epoch is kept", ("fidelity", "map"))
    val_images: int = option(0, "measure each epoch on the first N images of val; 0: all")
    scale: float = option(0.25, "augmentation: largest change of size")
    fliplr: float = option(0.5, "augmentation: probability of a mirror image")
    flipud: float = option(0.0, "augmentation: probability of an upside-down image")
    hsv: tuple[float, ...] = option((0.015, 0.4, 0.3), "augmentation: largest colour gains")
    mosaic: float = option(0.0, "augmentation: probability of a mosaic of four (not distill)")

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_numbers()
        fractions = {"--fliplr": self.fliplr, "--flipud": self.flipud, "--mosaic": self.mosaic}
        for flag, value in fractions.items():
            require(0 <= value <= 1, flag, value, "between 0 and 1")
        require(0 <= self.scale < 1, "--scale", self.scale, "0 or more and below 1")
        good = len(self.hsv) == 3 and all(0 <= gain < 1 for gain in self.hsv)
        require(good, "--hsv", " ".join(map(str, self.hsv)), "three numbers from 0 to below 1")
        if self.amp == "on":
            raise UserError(
                "--amp on: a quantized value is an integer times a scale, and 16-bit types round "
                "it off its grid; use --amp off"
            )
        if self.bn_reestimate and self.bn == "fold":
            raise UserError("--bn-reestimate: folded batch norm has no statistics; add --bn freeze")
        if self.mosaic and self.loss == "distill":
            raise UserError("--mosaic: is for the task's loss; use --loss task or both")

    def _check_numbers(self) -> None:
        require(self.epochs >= 1, "--epochs", self.epochs, "1 or more")
        require(0 <= self.average <= 1, "--average", self.average, "from 0 to 1")
        require(self.clip > 0, "--clip", self.clip, "above 0")
        for name in NOT_NEGATIVE:
            value = getattr(self, name)
            require(value >= 0, "--" + name.replace("_", "-"), value, "0 or more")

    @property
    def learning_rate(self) -> float:
        """The flag's, or the optimizer's usual one."""
        return self.lr or LEARNING_RATES[self.optimizer]

    @property
    def distils(self) -> bool:
        """Whether there is a teacher."""
        return self.loss in ("distill", "both")

    @property
    def needs_labels(self) -> bool:
        """Whether the train split's labels are used."""
        return self.loss in ("task", "both")
