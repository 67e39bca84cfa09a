"""What dampening, freezing and batch norm's statistics change, where QAT has most to recover."""

from typing import Any

from qat_gain import Pair, Setting, run
from record import Column, Found, Table
from subject import Subject, main

from yoloq.base.machine import keep_freed_memory

EPOCHS = 4
SEED = 0
WATCHED: dict[str, Any] = {
    "freeze_oscillating": 1.0
}  # no weight turns back at every step: counts, freezes none
FOUR_BITS: dict[str, Any] = {"weight_bits": 4}
TRAINING: dict[str, Any] = {"optimizer": "sgd", "lr": 1e-3, "epochs": EPOCHS}
SETTINGS: dict[str, dict[str, Any]] = {
    "4-bit weights": WATCHED,
    "dampening, --dampen 1": {"dampen": 1.0},
    "dampening, --dampen 100": {"dampen": 100.0},
    "freezing, --freeze-oscillating 0.015": {"freeze_oscillating": 0.015},
    "batch norm kept, --bn freeze": WATCHED | {"bn": "freeze"},
    "re-estimated, --bn freeze --bn-reestimate 18": WATCHED | {"bn": "freeze", "bn_reestimate": 18},
}
COLUMNS = (
    Column("Option"),
    Column("PTQ fidelity", "{:.3f}"),
    Column("QAT fidelity", "{:.3f}"),
    Column("QAT AP", "{:.2f}"),
    Column("Weights that oscillate, %", "{:.3f}"),
    Column("Frozen, %", "{:.3f}"),
    Column("Minutes a run", "{:.1f}"),
)
HOW = (
    "4-bit weights, seed 0, {epochs} epochs of 288 images, SGD, distillation; one run a line, so "
    "that a difference below the spread over the seeds of PTQ against QAT says nothing. A weight "
    "oscillates if more than one step in 200 takes its integer back where it came from. Made on a "
    "CPU."
)


def measure(subject: Subject) -> Found:
    """One line an option."""
    keep_freed_memory()
    rows = [
        line(name, run(subject, Setting(f"4-bit {index}", FOUR_BITS, TRAINING | options), SEED))
        for index, (name, options) in enumerate(SETTINGS.items())
    ]
    how = HOW.format(epochs=EPOCHS)
    return Found((), (Table("Options of QAT", COLUMNS, tuple(rows)),), (how,))


def line(name: str, pair: Pair) -> tuple[Any, ...]:
    """One row of the table."""
    last = pair.epochs[-1]
    shares = (100 * last["oscillating"], 100 * last["frozen"])
    found = (pair.ptq.fidelity, pair.qat.fidelity, 100 * pair.qat.ap)
    return (name, *found, *shares, pair.minutes)


if __name__ == "__main__":
    raise SystemExit(main("qat_options", measure))
