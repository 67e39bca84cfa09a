"""Which versions of packages are allowed, pinned, and tested as the lowest."""

import tomllib
from pathlib import Path

from lowest import lowest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parent.parent


def test_the_lowest_versions_are_those_of_pyproject() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    allowed = {r.name: r.specifier for r in map(Requirement, project["dependencies"])}
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split())
    pins = {name.lower().replace("_", "-"): Version(version) for name, version in pins.items()}
    found = {r.name: r.specifier for r in map(Requirement, lowest())}
    assert allowed.keys() <= found.keys()
    assert {"pytest", "hypothesis", "pytest-xdist"} == found.keys() - allowed.keys()
    for name, bound in allowed.items():
        [exact] = (Version(each.version) for each in found[name])
        assert exact in bound and pins[name] in bound and exact <= pins[name], name
        assert exact == pins[name] if name == "torch" else str(bound) == f">={exact}", name
