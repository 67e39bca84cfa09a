"""What the tests of the pages in `docs/` read of them."""

import re
from pathlib import Path

from yoloq.base.own_files import ROOT

DOCS = ROOT / "docs"
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.S | re.M)


def blocks(page: Path, *languages: str) -> list[str]:
    """The fenced blocks of a page in these languages, in order; `""` is one without."""
    return [text for kind, text in FENCE.findall(page.read_text()) if kind in languages]
