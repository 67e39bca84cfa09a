"""What a data set holds and what is wrong with its labels."""

from yoloq.base.own_files import MAKE
from yoloq.base.say import put
from yoloq.data.dataset import Dataset
from yoloq.quant.float_weights import load_weights
from yoloq.stages.data import DataConfig
from yoloq.stages.end import command
from yoloq.stages.run import open_dataset


def run(config: DataConfig) -> list[str]:
    """Print and return the description of the data set; the built-in one is made first.

    Raises:
        UserError: the set cannot be used (see `read_dataset` and `Dataset.truth`), or does not
            have the classes of the checkpoint.
    """
    dataset = open_dataset(config)
    if config.weights:
        names = load_weights(config.weights).names
        dataset = dataset.ordered_as(names, config.weights, config.data)
    lines = [f"{dataset.file}: {len(dataset.names)} classes"]
    for split in dataset.splits:
        lines += describe(dataset, split)
    lines += dataset.missing.values()
    for line in lines:
        put(line)
    return lines


def next_step(config: DataConfig, found: list[str]) -> str:
    """Measure the checkpoint on it."""
    return command(config, "baseline")


def describe(dataset: Dataset, split: str) -> list[str]:
    """One line of counts of a split, and its label problems; those of train need not be there."""
    truth, report = dataset.truth(split, dataset.images(split))
    if split == "train" and not report.boxes and not report.problems:
        use = f"only {MAKE} qat ARGS='--loss task' reads them"
        others = report.lines()[:-1]  # the last is that there is none
        first = f"{split}: {report.images} images, no label of them found; {use}"
        return [first, *(f"  {line}" for line in others)]
    used = len(set(truth.classes.tolist()))
    counts = (
        f"{split}: {report.images} images, {report.background} of them without objects; "
        f"{report.boxes} boxes of {used} classes; {len(report.problems)} labels skipped"
    )
    return [counts, *(f"  {line}" for line in report.lines())]
