"""The options of `make qat`."""

from dataclasses import dataclass

from yoloq.base.config import AUTO, count_or_auto, option, require
from yoloq.base.errors import UserError
from yoloq.stages.fine_tune import CPU_IMAGES, TuneConfig

NOT_NEGATIVE = (
    *("range_lr", "bn_reestimate", "task_weight", "dampen", "freeze_oscillating"),
    *("correct", "correct_lr"),
)


@dataclass(frozen=True)
class QatConfig(TuneConfig):
    """Fine-tune the calibrated model with fake quantization (QAT)."""

    epoch_images: int | str = option(
        AUTO,
        f"images of train an epoch, others each time; 0: all; auto: on a CPU {CPU_IMAGES}",
        reader=count_or_auto,
    )
    policy: str = option(
        "", "policy (.json), such as of several bits, to calibrate and train; empty: that of PTQ"
    )
    ranges: str = option("frozen", "ranges of activations", ("frozen", "learned", "ema"))
    range_lr: float = option(10.0, "learned ranges: change a step against --lr (adamw)")
    bn: str = option(
        "fold", "batch norm: folded, or kept with frozen statistics", ("fold", "freeze")
    )
    bn_reestimate: int = option(0, "re-estimate its statistics on N batches (--bn freeze)")
    loss: str = option("distill", "what is minimised", ("distill", "task", "both"))
    teacher: str = option("", "float checkpoint to distill from; empty: that of --weights")
    labels: str = option("data", "labels of the task's loss", ("data", "teacher"))
    label_score: float = option(0.25, "least score of a teacher's box that is a label")
    task_weight: float = option(1.0, "weight of the task's loss")
    schedule: str = option(
        "all",
        "layers are quantized all at once, or join by and by, all by the last third",
        ("all", "front-to-back", "by-sensitivity"),
    )
    only: tuple[str, ...] = option((), "layers to train, names or patterns; none: all")
    dampen: float = option(0.0, "weight of oscillation dampening; 0: off")
    freeze_oscillating: float = option(0.0, "freeze weights that oscillate oftener; 0: off")
    correct: int = option(
        0, "epochs behind the others that train scale and bias of each channel alone"
    )
    correct_lr: float = option(1.0, "these: change a step against --lr (adamw)")
    amp: str = option("off", "mixed precision; on is refused, it would break scales", ("off", "on"))
    mosaic: float = option(0.0, "augmentation: probability of a mosaic of four (not distill)")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_not_negative(NOT_NEGATIVE)
        require(0 <= self.mosaic <= 1, "--mosaic", self.mosaic, "between 0 and 1")
        if self.amp == "on":
            raise UserError(
                "--amp on: a quantized value is an integer times a scale, and 16-bit types round "
                "it off its grid; use --amp off"
            )
        if self.bn_reestimate and self.bn == "fold":
            raise UserError("--bn-reestimate: folded batch norm has no statistics; add --bn freeze")
        require(0 < self.label_score < 1, "--label-score", self.label_score, "between 0 and 1")
        if self.labels == "teacher" and not self.uses_task:
            raise UserError("--labels teacher: is for the task's loss; use --loss task or both")
        if self.mosaic and self.loss == "distill":
            raise UserError("--mosaic: is for the task's loss; use --loss task or both")

    @property
    def least_epochs(self) -> int:
        """None where what PTQ left is corrected."""
        return 0 if self.correct else 1

    @property
    def distils(self) -> bool:
        """Whether there is a teacher."""
        return self.loss in ("distill", "both")

    @property
    def uses_task(self) -> bool:
        """Whether the loss on labels counts."""
        return self.loss in ("task", "both")

    @property
    def needs_labels(self) -> bool:
        """Whether the train split's labels are used."""
        return self.uses_task and self.labels == "data"
