"""What the tests of the pages in `docs/` read of them."""

import re
from pathlib import Path

from yoloq.base.own_files import ROOT

DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.S | re.M)
INLINE = re.compile(r"`([^`]+)`")


def blocks(page: Path, *languages: str) -> list[str]:
    """The fenced blocks of a page in these languages, in order; `""` is one without."""
    return [text for kind, text in FENCE.findall(page.read_text()) if kind in languages]


def shell_lines(page: Path) -> list[str]:
    """The commands of a page: the lines of its blocks, and what stands between backticks."""
    lines = "\n".join(blocks(page, "", "sh")).replace("\\\n", " ").splitlines()
    inline = INLINE.findall(FENCE.sub("", page.read_text()))
    # others between backticks only name a target
    return lines + [line for line in inline if re.match("make [a-z]", line) and "=" in line]
