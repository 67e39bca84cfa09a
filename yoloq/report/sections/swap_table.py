"""What another activation in the place of SiLU cost and gained."""

from yoloq.report.run_folder import RunFolder
from yoloq.report.section import Missing, Section
from yoloq.report.sections.epoch_charts import epoch_charts
from yoloq.report.tables import line, rendered


def swap_table(run: RunFolder) -> Section | Missing:
    """The table of both networks, and the training that taught the new one."""
    result = run.result("swap")
    if result is None:
        return Missing("SiLU was not swapped for a faster activation", run.command("swap"))
    notes, config = result.notes, result.config
    words = [f"{config['activation']} for SiLU in {len(notes['layers'])} layers."]
    for precision, share in notes["time_ratio"].items():
        if share is not None:
            words.append(f"{precision} takes {share:.3f} of the time that it takes with SiLU.")
    table = tuple(map(tuple, rendered([line("", row, result) for row in result.rows])))
    charts = epoch_charts(notes["epochs"], int(notes["best"]["epoch"]))
    data = {"rows": [line("", row, result) for row in result.rows], "notes": notes}
    return Section(tuple(words), charts, table, data, table_first=True)
