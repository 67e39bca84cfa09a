"""Put the results into README.md, between its markers; `--check` only says whether they are there.

    python benchmarks/tables.py

A marker `<!-- begin coco-mini/speed -->` names a file of `results/`; what stands up to the next
`<!-- end -->` is replaced.
"""

import argparse
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from record import FOLDER, RESULTS, read

README = FOLDER / "README.md"
MARKED = re.compile(r"(<!-- begin ([\w/-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
VERDICTS = {True: "pass", False: "**miss**", None: "-"}


def main() -> int:
    """Rewrite the README, or compare; 1 where it is not up to date."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing")
    check = parser.parse_args().check
    text = README.read_text(encoding="utf-8")
    filled = fill(text, RESULTS)
    if check and filled != text:
        print(f"{README}: not up to date; run python benchmarks/tables.py", file=sys.stderr)
        return 1
    if not check:
        README.write_text(filled, encoding="utf-8")
    return 0


def fill(text: str, results: Path) -> str:
    """The text with every marked part made anew from its result."""
    return MARKED.sub(lambda found: found[1] + part(results / f"{found[2]}.json") + found[3], text)


def part(file: Path) -> str:
    """Figures, tables, and how they were taken."""
    if not file.is_file():
        return "\nNot measured yet.\n\n"
    result = read(file)
    blocks = [figures(result["figures"])] if result["figures"] else []
    blocks += [table(item) for item in result["tables"]]
    blocks += result["how"]
    blocks.append(machine(result))
    return "\n" + "\n\n".join(blocks) + "\n\n"


def figures(rows: Iterable[dict[str, Any]]) -> str:
    """Every figure with its target and verdict."""
    cells = [
        (
            row["name"],
            row["form"].format(row["value"]),
            row["target"] or "-",
            VERDICTS[row["passed"]],
            row["note"],
        )
        for row in rows
    ]
    return grid(("Figure", "Measured", "Target", "", "Note"), cells)


def table(content: dict[str, Any]) -> str:
    """One table under its title."""
    forms = [column["form"] for column in content["columns"]]
    rows = content["rows"]
    cells = [[cell(form, x) for form, x in zip(forms, row, strict=True)] for row in rows]
    return f"{content['title']}:\n\n" + grid([c["title"] for c in content["columns"]], cells)


def cell(form: str, value: Any) -> str:
    """A value as text; None is a dash."""
    return "-" if value is None else form.format(value)


def grid(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A markdown table."""
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def machine(result: dict[str, Any]) -> str:
    """What the figures were measured on, in one paragraph."""
    subject, found = result["subject"], result["environment"]
    versions = ", ".join(f"{name} {number}" for name, number in found["versions"].items() if number)
    return (
        f"{subject['weights']['file']} ({subject['weights']['sha256'][:12]}), "
        f"{subject['data']['images']} images at {subject['imgsz']} px; {found['cpu']}, cores "
        f"{found['affinity']}, {', '.join(found['isa'])}; GPU {found['gpu'] or 'none'}; "
        f"Python {found['python']}, {versions}; took {result['seconds']:.0f} s."
    )


if __name__ == "__main__":
    raise SystemExit(main())
