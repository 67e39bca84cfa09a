"""The pages of `docs/` name what there is: links, commands, flags, and every page in the site."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import yaml
from doc_pages import DOCS, FENCE, INLINE, PAGES, shell_lines

from yoloq.__main__ import STAGES, options_of
from yoloq.base.config import StageConfig, parse
from yoloq.base.own_files import ROOT
from yoloq.engines.options import BuildOptions
from yoloq.stages.fine_tune import TuneConfig

IDS = [str(page.relative_to(ROOT)) for page in PAGES]
OTHERS = {  # flags of other tools that the pages show
    *("--no-deps", "--nproc-per-node", "--standalone", "--help"),
    *("--headless", "--hide-scrollbars", "--window-size", "--screenshot"),
    *("--loadEngine", "--useCudaGraph", "--useSpinWait", "--noDataTransfers"),
    *("--stronglyTyped", "--strongly-typed", "--system-site-packages"),
    *("--json", "--quiet", "--debug"),  # of every command
}

each_page = pytest.mark.parametrize("page", PAGES, ids=IDS)


def code(page: Path) -> str:
    """All code of a page: its blocks, and what stands between backticks in a line."""
    text = page.read_text()
    prose = FENCE.sub("", text)
    return "\n".join([*(body for _, body in FENCE.findall(text)), *INLINE.findall(prose)])


def anchors(page: Path) -> set[str]:
    """What a link may name on a page: its headings as GitHub writes them in an address."""
    prose = FENCE.sub("", page.read_text())
    headings = re.findall(r"^#+ (.+)$", prose, re.M)
    kept = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in kept}


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    prose = FENCE.sub("", page.read_text())
    dead = []
    for link in re.findall(r"\]\(([^)\s]+)\)", prose):
        if re.match(r"https?://|mailto:", link):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            dead.append(link)
    assert dead == []


def targets() -> set[str]:
    """What `make` can be asked for."""
    text = (ROOT / "Makefile").read_text()
    stages = re.search(r"^STAGES := (.+)$", text, re.M)
    rules = re.findall(r"^([a-z][\w -]*|\$\(STAGES\)[\w -]*):(?!=)", text, re.M)
    assert stages
    return {name for rule in rules for name in rule.replace("$(STAGES)", stages[1]).split()}


def flags() -> set[str]:
    """Every flag of every stage, of the benchmarks and of other tools."""
    names = {name for stage in STAGES for name in options_of(stage).__dataclass_fields__}
    own = {form + name.replace("_", "-") for name in names for form in ("--", "--no-")}
    benchmarks = "\n".join(file.read_text() for file in (ROOT / "benchmarks").glob("*.py"))
    return own | OTHERS | set(re.findall(r'"(--[a-z-]+)"', benchmarks))


def test_the_makefile_is_read() -> None:
    assert {"help", "setup", "baseline", "ptq", "lint-onnx", "bench", "clean"} <= targets()
    assert "flag" not in targets() and "STAGES" not in targets()


@each_page
def test_targets_exist(page: Path) -> None:
    named = set(re.findall(r"(?:^|[\s`;&])make ([a-z][a-z-]*)", code(page)))
    assert named - targets() == set()


@each_page
def test_flags_exist(page: Path) -> None:
    named = set(re.findall(r"(?<![\w-])--[A-Za-z][\w-]*", code(page)))
    assert named - flags() == set()


def test_each_page_of_a_stage_has_its_flags() -> None:
    also = {"baseline": StageConfig, "qat": TuneConfig, "engine": BuildOptions}
    lacking = []
    for page in (DOCS / "stages").glob("*.md"):
        kinds = [options_of(page.stem.replace("-", "_")), also.get(page.stem)]
        own = [(kind, {item.name for item in fields(kind)}) for kind in kinds if kind]
        names = {name for kind, flags in own for name in flags & kind.__annotations__.keys()}
        text = page.read_text()
        for flag in (name.replace("_", "-") for name in sorted(names)):
            if not re.search(rf"--(no-)?{flag}\b", text):
                lacking.append(f"{page.name}: --{flag}")
    assert lacking == []


def commands(page: Path) -> list[list[str]]:
    """The `make` lines of a page, in words: those of its blocks, and those between backticks."""
    lines = shell_lines(page)
    return [shlex.split(line, comments=True) for line in lines if re.match("make [a-z]", line)]


@each_page
def test_commands_have_right_flags(page: Path) -> None:
    """As far as to the stage's door: its options are read and checked, and nothing is run."""
    keep = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    for words in commands(page):
        dry = ["make", "--dry-run", "--no-print-directory", *words[1:]]
        done = subprocess.run(dry, cwd=ROOT, env=keep, capture_output=True, text=True, check=True)
        for line in done.stdout.splitlines():
            script = re.search(r"scripts/(\w+)\.py(.*)", line)
            if script:
                parse(options_of(script[1]), shlex.split(script[2]))


def test_the_site_has_every_page() -> None:
    site = DOCS / "site" / "mkdocs.yml"
    config = yaml.safe_load(site.read_text())
    home = (site.parent / config["docs_dir"]).resolve()
    assert home == DOCS
    listed = leaves(config["nav"])
    assert sorted(listed) == sorted(str(p.relative_to(DOCS)) for p in DOCS.rglob("*.md"))


def build_site(docs: Path, site: Path) -> subprocess.CompletedProcess[str]:
    """As `make docs` builds it."""
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)]
    config = ["--config-file", str(docs / "site" / "mkdocs.yml")]
    return subprocess.run([*build, *config], capture_output=True, text=True)


def test_the_site_is_built(tmp_path: Path) -> None:
    done = build_site(DOCS, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "<table>" in (tmp_path / "stages" / "ptq" / "index.html").read_text()
    assert not (tmp_path / "site").exists() and not list(tmp_path.rglob("*.py"))
    for page in tmp_path.rglob("*.html"):  # it asks no other host for anything
        text = page.read_text()
        loaded = re.findall(r'src="([^"]+)"', text)
        loaded += re.findall(r'<link [^>]*href="([^"]+)"', text)
        assert [address for address in loaded if re.match("(https?:)?//", address)] == []


@pytest.mark.parametrize("link", ["nowhere.md", "stages/ptq.md#nowhere"])
def test_a_dead_link_fails(link: str, tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    shutil.copytree(DOCS, docs)
    (docs / "data.md").write_text(f"# Data\n\n[a page]({link})\n")
    done = build_site(docs, tmp_path / "built")
    assert done.returncode != 0 and "nowhere" in done.stderr


def leaves(nav: list | dict | str) -> list[str]:
    """The pages in a table of contents of mkdocs."""
    if isinstance(nav, str):
        return [nav]
    parts = nav.values() if isinstance(nav, dict) else nav
    return [page for part in parts for page in leaves(part)]
