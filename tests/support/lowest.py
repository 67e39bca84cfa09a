"""The lowest versions that pyproject.toml allows, which `make test-lowest` installs.

torch stays the one of constraints.txt: every other is gigabytes.
"""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
BOUND = re.compile(r"([\w.-]+)>=([\w.]+)")
NEEDED = ("pytest", "hypothesis", "pytest-xdist")  # of what only developers have
PINNED = "torch"


def lowest() -> list[str]:
    """A requirement a package."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    developers = [d for d in project["optional-dependencies"]["dev"] if d.startswith(NEEDED)]
    bounds = dict(BOUND.match(each).groups() for each in (*project["dependencies"], *developers))
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split())
    return [f"{name}=={version}" for name, version in (bounds | {PINNED: pins[PINNED]}).items()]


if __name__ == "__main__":
    print("\n".join(lowest()))
