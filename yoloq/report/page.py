"""The report as a page: one file, made from `html/`, that asks nothing of a network."""

from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined

from yoloq.report.chapters import Document
from yoloq.report.notes import LEGEND
from yoloq.report.ranked import ranked

HTML = "html"  # the folder with the template, the style and the script


def page(document: Document) -> str:
    """The document as HTML."""
    environment = Environment(
        loader=PackageLoader("yoloq.report", HTML),
        autoescape=True,  # names of runs, layers and files are text, whatever is in them
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    titles, rows = ranked(document.lines)
    return environment.get_template("page.html").render(
        document=document,
        titles=titles,
        rows=rows,
        legend=LEGEND,
        style=_content("style.css"),
        script=_content("script.js"),
    )


def _content(name: str) -> str:
    return (files("yoloq.report") / HTML / name).read_text(encoding="utf-8")
