"""The long forms of what tests do shortly: stages that are killed, and the same work over and over.

    make reliability
    make reliability ARGS="--only kill-ptq soak-loader --kills 3 --rounds 500"

Its file says what each part came to, and of which code; a run that goes on with it takes what is of
this code, machine and seed, and adds what is missing.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import engine_wheels
from kill_cases import CASES
from killed import Trial, import_stages, survive
from soak import ENGINES, SOAKS, soak

from yoloq.base.files import sha256, sha256_text
from yoloq.base.machine import cpu_model
from yoloq.base.own_files import ROOT
from yoloq.stages.run import package_versions

KILLS, SOAK = "kill", "soak"  # a part is called kill-ptq, soak-loader ...
PARTS = tuple([f"{KILLS}-{name}" for name in CASES] + [f"{SOAK}-{name}" for name in SOAKS])
WITH_ENGINES = ("baseline", "ptq", *(f"engine-{name}" for name in ENGINES))


class Record:
    """What each part came to, in a file that is whole after each step.

    Args:
        file: None: it is printed in the end.
        facts: that a figure depends on; parts of others are not gone on with.
    """

    def __init__(self, file: Path | None, facts: dict[str, Any]) -> None:
        self.file, self.facts = file, facts
        known = json.loads(file.read_text()) if file and file.exists() else {}
        self.parts: dict[str, dict[str, Any]] = known.get("parts", {})

    def known(self, name: str) -> dict[str, Any]:
        """What there is of a part, to go on from; empty: nothing."""
        found = self.parts.get(name, {})
        own = all(found.get(key) == value for key, value in self.facts.items())
        return {key: value for key, value in found.items() if key not in self.facts} if own else {}

    def keep(self, name: str, found: dict[str, Any]) -> None:
        """Add a part, or replace it."""
        self.parts[name] = found | self.facts
        print(f"{name}: {found}", file=sys.stderr, flush=True)
        if self.file:
            self.file.write_text(self.text())

    def text(self) -> str:
        """All parts as JSON, in their order."""
        parts = {name: self.parts[name] for name in PARTS if name in self.parts}
        return json.dumps({"parts": parts}, indent=1) + "\n"


def code() -> str:
    """Hash of yoloq's own files and of the versions that it runs with."""
    files = sorted((ROOT / "yoloq").rglob("*.py"))
    return sha256_text("".join(map(sha256, files)) + json.dumps(package_versions()))[:16]


def kinds_of(parts: list[str], kind: str) -> list[str]:
    """Names of the parts of a kind."""
    return [name.removeprefix(f"{kind}-") for name in parts if name.startswith(f"{kind}-")]


def soaks(trial: Trial, name: str, rounds: int) -> dict[str, Any]:
    """One soak, in a process of its own."""
    project = trial.project(WITH_ENGINES)
    found = project / "found.json"

    def work() -> int:
        found.write_text(json.dumps(soak(name, trial.tiny, project, rounds).to_json()))
        return 0

    trial.must(work)
    return dict(json.loads(found.read_text()))


def steps(trial: Trial, given: argparse.Namespace, record: Record) -> Iterator[None]:
    """Do what the record lacks, step by step."""
    for name in kinds_of(given.only, KILLS):
        part = f"{KILLS}-{name}"
        if record.known(part).get("tried", 0) < given.kills:
            for found in survive(trial, name, record.known(part), given.kills, given.seed):
                yield record.keep(part, found)
    for name in kinds_of(given.only, SOAK):
        part, rounds = f"{SOAK}-{name}", given.rounds or SOAKS[name][0]
        known = record.known(part)
        if known.get("rounds", 0) < rounds or known["faults"]:
            yield record.keep(part, soaks(trial, name, rounds))


def main_of(arguments: list[str]) -> int:
    """Write the counts as JSON; 1 where something went wrong."""
    there = [name for name in PARTS if "litert" not in name or engine_wheels.found("litert")]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=there, choices=there)
    parser.add_argument("--kills", type=int, default=25, help="of each stage")
    parser.add_argument("--rounds", type=int, default=0, help="of each soak; 0: the long form's")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args(arguments)
    wanted = [*kinds_of(given.only, KILLS), *WITH_ENGINES]
    import_stages([*wanted, "predict"])
    facts = {"cpu": cpu_model(), "seed": given.seed, "code": code()}
    record = Record(given.out, facts)
    with tempfile.TemporaryDirectory(prefix="yoloq-") as folder:
        for _ in steps(Trial(Path(folder)), given, record):
            pass
    if not given.out:
        print(record.text())
    return int(any(record.parts[name]["faults"] for name in given.only))


if __name__ == "__main__":
    raise SystemExit(main_of(sys.argv[1:]))
