"""How quantization-aware training went."""

from yoloq.report.run_folder import RunFolder
from yoloq.report.section import Missing, Section
from yoloq.report.sections.epoch_charts import epoch_charts, epoch_table


def qat_curves(run: RunFolder) -> Section | Missing:
    """Loss, accuracy and rate by epoch, and whether it helped."""
    result = run.result("qat")
    if result is None:
        return Missing("the quantized model was not trained", run.command("qat"))
    notes = result.notes
    best, epochs = notes["best"], notes["epochs"]
    figure, value = next((k, v) for k, v in best.items() if k not in ("epoch", "ptq"))
    gained = f"{figure} {best['ptq']:.4f} (PTQ) to {value:.4f}"
    kept = (
        f"Epoch {best['epoch']} is kept: {gained}."
        if best["epoch"]
        else (f"No epoch has more {figure} than PTQ ({best['ptq']:.4f}): PTQ is kept.")
    )
    words = (
        kept,
        "The kept epoch is the best of several on these images, and so a little too good.",
    )
    return Section(words, epoch_charts(epochs, best["epoch"]), epoch_table(epochs), notes)
