"""The report in a real browser: both themes, a phone, paper; nothing cut, nothing asked for."""

import json
from collections.abc import Iterator
from pathlib import Path

import chromium
import pytest
from report_run import whole_run

from yoloq.stages.report import ReportConfig
from yoloq.stages.report.stage import run

WIDE, PHONE = 1280, 390  # pixels

CUT = """
(() => {
  const bad = [];
  if (document.documentElement.scrollWidth > innerWidth)
    bad.push("the page is wider than the window");
  for (const box of document.querySelectorAll("body *")) {
    const style = getComputedStyle(box);
    const clips = ["hidden", "clip"].includes(style.overflowX) || style.textOverflow === "ellipsis";
    if (clips && !box.closest("svg") && box.scrollWidth > box.clientWidth + 1)
      bad.push(box.outerHTML.slice(0, 90));
  }
  for (const text of document.querySelectorAll("svg text")) {
    const frame = text.ownerSVGElement.getBoundingClientRect(), own = text.getBoundingClientRect();
    if (!frame.width || !own.width) continue;
    const out = own.left < frame.left - 1 || own.right > frame.right + 1
      || own.top < frame.top - 1 || own.bottom > frame.bottom + 1;
    if (out) bad.push(`${text.ownerSVGElement.getAttribute("aria-label")}: ${text.textContent}`);
  }
  return bad;
})()
"""

CONTRAST = """
(() => {
  const parts = (colour) => colour.match(/[\\d.]+/g).slice(0, 3).map(Number);
  const light = (colour) => parts(colour).map((v) => v / 255)
    .map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const back = light(getComputedStyle(document.body).backgroundColor);
  return ["h1", ".facts", "td", "svg .tick", "a", "summary"].map((name) => {
    const style = getComputedStyle(document.querySelector(name));
    const front = light(name.startsWith("svg") ? style.fill : style.color);
    return (Math.max(front, back) + 0.05) / (Math.min(front, back) + 0.05);
  });
})()
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a run in which everything was run."""
    folder = whole_run(tmp_path_factory.mktemp("runs") / "a run <b>")
    run(ReportConfig(project=str(folder.parent), name=folder.name))
    return folder / "report.html"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[chromium.Page]:
    program = chromium.find_chromium()
    if program is None:
        pytest.skip("no Chromium is installed: apt install chromium")
    with chromium.opened(program, tmp_path_factory.mktemp("profile")) as page:
        yield page


LOOKS = [
    pytest.param(WIDE, False, id="light"),
    pytest.param(WIDE, True, id="dark"),
    pytest.param(PHONE, False, id="phone"),
]


@pytest.mark.parametrize(("width", "dark"), LOOKS)
def test_nothing_is_cut_wrong_or_asked_for(
    width: int, dark: bool, browser: chromium.Page, report: Path, tmp_path: Path
) -> None:
    look_at(browser, report, width, dark, tmp_path / "page.png")


@pytest.mark.parametrize(("width", "dark"), LOOKS)
def test_a_comparison_is_as_whole(
    width: int, dark: bool, browser: chromium.Page, report: Path, tmp_path: Path
) -> None:
    other = whole_run(tmp_path / "another run")
    run(ReportConfig(runs=(str(report.parent), str(other))))
    look_at(browser, report.with_name("comparison.html"), width, dark, tmp_path / "page.png")


def look_at(browser: chromium.Page, report: Path, width: int, dark: bool, shot: Path) -> None:
    """Open a page and all that is closed in it: nothing is cut, complains, or is asked for."""
    browser.open(report, width, dark=dark)
    browser.screenshot(shot)
    assert shot.stat().st_size > 20_000
    assert browser.evaluate(CUT) == []
    browser.evaluate(
        "document.querySelectorAll('details').forEach((each) => { each.open = true; })"
    )
    assert browser.evaluate(CUT) == []
    complaints = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")
    assert browser.of_kind(*complaints) == []
    asked = [e["request"]["url"] for e in browser.of_kind("Network.requestWillBeSent")]
    assert [url for url in asked if not url.startswith("data:")] == [report.as_uri()]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_everything_can_be_read(dark: bool, browser: chromium.Page, report: Path) -> None:
    browser.open(report, WIDE, dark=dark)
    assert min(browser.evaluate(CONTRAST)) >= 4.5  # WCAG AA


def test_the_button_changes_the_theme(browser: chromium.Page, report: Path) -> None:
    browser.open(report, WIDE)
    colour = "getComputedStyle(document.body).backgroundColor"
    before = browser.evaluate(colour)
    browser.evaluate("document.getElementById('theme').click()")
    assert browser.evaluate(colour) != before
    browser.evaluate("document.getElementById('theme').click()")
    assert browser.evaluate(colour) == before


def test_columns_are_sorted_by_value(browser: chromium.Page, report: Path) -> None:
    """20.00 ms is more than 4.00, and what was not timed comes last either way."""
    browser.open(report, WIDE)
    heads = "[...document.querySelectorAll('#rows th')]"
    column = f"{heads}.findIndex((h) => h.innerText.startsWith('p50'))"
    click = f"{heads}[{column}].firstChild.click()"
    rows = "[...document.querySelectorAll('#rows tbody tr')]"
    cells = f"{rows}.map((r) => r.cells[{column}].innerText)"
    browser.evaluate(click)
    assert browser.evaluate(cells) == ["20.00", "8.00", "6.00", "4.00", "-", "-"]
    browser.evaluate(click)
    assert browser.evaluate(cells) == ["4.00", "6.00", "8.00", "20.00", "-", "-"]


def test_the_best_of_each_column_is_bold(browser: chromium.Page, report: Path) -> None:
    browser.open(report, WIDE)
    bold = browser.evaluate("[...document.querySelectorAll('#rows b')].map((b) => b.innerText)")
    # AP50 four times and AP four times (float ties), then p50, p99, FPS, speed-up, size of int8
    assert {"4.00", "6.00", "250.0", "2.00x", "2.00"} <= set(bold)
    assert "20.00" not in bold and "0.980" in bold


def test_hovering_shows_what_a_mark_is(browser: chromium.Page, report: Path) -> None:
    browser.open(report, WIDE)
    tip = browser.evaluate(
        """(() => {
          const cells = [...document.querySelectorAll("#placement .cell")];
          const how = {bubbles: true, clientX: 5, clientY: 5};
          cells.find((c) => c.dataset.tip).dispatchEvent(new PointerEvent("pointermove", how));
          return document.getElementById("tip").innerText;
        })()"""
    )
    assert tip.splitlines() == [
        "model.0.conv: int8",
        "scale 0.02, zero-point 128",
        "SNR 40.0 dB, alone 24.5 dB",
        "0.500 ms, 0.400 in float",
    ]


def test_every_section_is_there_and_names_are_text(browser: chromium.Page, report: Path) -> None:
    browser.open(report, WIDE)
    assert browser.evaluate("document.querySelector('h1').innerText") == "a run <b>"
    titles = browser.evaluate("[...document.querySelectorAll('h2')].map((h) => h.innerText)")
    for title in ("Accuracy against latency", "Placement", "Which layers hurt", "To repeat it"):
        assert title in titles
    assert "Not run" not in titles
    said = json.loads((report.parent / "report.json").read_text())
    assert len(titles) == len(said["sections"]) + 2  # the verdict and the table


def test_paper_is_light_and_has_the_tables(browser: chromium.Page, report: Path) -> None:
    browser.open(report, WIDE, dark=True)
    dark = [{"name": "prefers-color-scheme", "value": "dark"}]
    browser.call("Emulation.setEmulatedMedia", media="print", features=dark)
    browser.evaluate("dispatchEvent(new Event('beforeprint'))")
    colour = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    closed = browser.evaluate("document.querySelectorAll('details:not([open])').length")
    browser.call("Emulation.setEmulatedMedia", media="")
    assert (colour, closed) == ("rgb(255, 255, 255)", 0)
