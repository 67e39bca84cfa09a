"""The report as a page: one file without outside resources."""

import html
from collections.abc import Sequence


def page(table: Sequence[Sequence[str]], legend: str, notes: Sequence[str]) -> str:
    """A table with its legend and how it was measured, as HTML."""
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in table[0])
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>"
        for cells in table[1:]
    )
    items = "".join(f"<li>{html.escape(item)}</li>" for item in notes)
    style = (
        "body{font:15px sans-serif;margin:2em}table{border-collapse:collapse}"
        "td,th{padding:.3em .7em;border-bottom:1px solid #ccc;text-align:right}"
    )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>yoloq report</title>'
        f"<style>{style}</style><h1>Report</h1><table><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table><p>{html.escape(legend)}</p><ul>{items}</ul></html>\n"
    )
