"""Pictures: whole files that show the values, and nothing written elsewhere."""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from yoloq.base.errors import RunError
from yoloq.measure.compare import LayerError
from yoloq.quant.statistics import Statistics
from yoloq.report import plots

LAYERS = [f"model.{i}.cv1.conv" for i in range(60)]
AMAX = {"max": 4.0, "mse": 2.5, "entropy": 1.75}


def statistics(low: float = -1.0, high: float = 4.0, bins: int = 8192) -> Statistics:
    counts = np.random.default_rng(0).integers(0, 50, bins)
    empty = np.zeros(1, np.float32)
    return Statistics(low, high, counts, empty, empty)


ERRORS = [
    LayerError("a", cosine=0.9999, snr=45.0, relative=0.01),
    LayerError("b", cosine=0.97, snr=12.0, relative=0.2),
    LayerError("c", cosine=1.0, snr=150.0, relative=0.0),
]
NAN = LayerError("a", float("nan"), float("nan"), float("nan"), nan=3)
DRAW = {
    "bars": lambda file: plots.draw_bars(file, "t", LAYERS, range(60), [(0, 70)] * 60, "points"),
    "bars without intervals": lambda file: plots.draw_bars(file, "t", ["a"], [1.0]),
    "no bars": lambda file: plots.draw_bars(file, "t", [], []),
    "histogram": lambda file: plots.draw_histogram(file, "t", statistics(), AMAX, "mse"),
    "constant": lambda file: plots.draw_histogram(file, "t", statistics(0, 0), {"max": 0}, "max"),
    "errors": lambda file: plots.draw_errors(file, ERRORS),
    "no errors": lambda file: plots.draw_errors(file, []),
    "NaN": lambda file: plots.draw_errors(file, [NAN]),
    "curve": lambda file: plots.draw_curve(file, {"a": [(1, 0.5), (2, 0.75)], "b": [(1, 2.0)]}),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", DRAW)
def test_picture_is_whole_and_not_blank(name: str, tmp_path: Path) -> None:
    file = tmp_path / "folder" / "picture.png"
    DRAW[name](file)
    image = cv2.imread(str(file))
    height, width, _ = image.shape
    assert width >= 900 and height >= 200
    assert image.std() > 3
    assert [item.name for item in file.parent.iterdir()] == [file.name]


def test_same_picture_same_bytes(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        DRAW["histogram"](tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_failed_picture_leaves_the_old_one(tmp_path: Path, monkeypatch) -> None:
    file = tmp_path / "picture.png"
    file.write_bytes(b"old")
    figure, _ = plots.new_figure(2, 2)

    def fail(temporary: Path, **options: object) -> None:
        temporary.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(figure, "savefig", fail)
    with pytest.raises(RunError, match=r"picture\.png: cannot be written \(No space left"):
        plots.save_figure(figure, file)
    assert file.read_bytes() == b"old"
    assert [item.name for item in tmp_path.iterdir()] == [file.name]


def test_panes_stand_in_reading_order() -> None:
    figure, panes = plots.new_figure(4, 4, rows=2, columns=3)
    assert panes == list(figure.axes)
    corners = [(round(-p.get_position().y0, 2), p.get_position().x0) for p in panes]
    assert len(panes) == 6
    assert corners == sorted(corners)


def test_bars_have_their_lengths_names_and_intervals() -> None:
    intervals = [(1.0, 5.0), None, (-4.0, -3.0)]
    figure = plots.bars("title", ["a", "b", "c"], [3.0, 1.0, -2.0], intervals, "points")
    (axes,) = figure.axes
    assert [bar.get_width() for bar in axes.patches] == [3.0, 1.0, -2.0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b", "c"]
    assert axes.yaxis_inverted(), "the first is on top"
    assert (axes.get_title(), axes.get_xlabel()) == ("title", "points")
    (container,) = (c for c in axes.containers if hasattr(c, "lines"))
    segments = container.lines[2][0].get_segments()
    np.testing.assert_allclose(segments[0][:, 0], [1, 5])
    np.testing.assert_allclose(segments[-1][:, 0], [-4, -2], err_msg="ends at the value")


def test_sixty_names_do_not_overlap() -> None:
    figure = plots.bars("t", LAYERS, [1.0] * 60)
    figure.draw_without_rendering()
    boxes = [label.get_window_extent() for label in figure.axes[0].get_yticklabels()]
    assert all(upper.y0 >= lower.y1 for upper, lower in itertools.pairwise(boxes))


def test_histogram_shows_every_count_and_every_amax() -> None:
    drawn = statistics()
    figure = plots.histogram("t", drawn, AMAX, "mse")
    linear, log = figure.axes
    assert (linear.get_yscale(), log.get_yscale()) == ("linear", "log")
    for axes in (linear, log):
        values, edges, _ = axes.patches[0].get_data()
        assert values.sum() == drawn.counts.sum()
        assert len(values) == 512
        np.testing.assert_array_equal(values[0], drawn.counts[:16].sum())
        assert (edges[0], edges[-1]) == (-1.0, 4.0)
        lines = {line.get_label(): line for line in axes.lines if line.get_label()[0] != "_"}
        assert list(lines) == ["max: 4", "mse: 2.5 (used)", "entropy: 1.75"]
        assert [line.get_xdata()[0] for line in lines.values()] == [4.0, 2.5, 1.75]
        widths = {label: line.get_linewidth() for label, line in lines.items()}
        assert max(widths, key=widths.__getitem__) == "mse: 2.5 (used)"
        assert sorted(line.get_xdata()[0] for line in axes.lines)[:3] == [-4.0, -2.5, -1.75]


def test_bounds_of_a_tensor_without_negatives_are_drawn_once() -> None:
    figure = plots.histogram("t", statistics(low=0.0), AMAX, "mse")
    assert [line.get_xdata()[0] for line in figure.axes[0].lines] == [4.0, 2.5, 1.75]


@pytest.mark.parametrize(
    ("thresholds", "bad"),
    [({}, [1]), ({"cosine": 0.9, "snr": 10.0}, []), ({"cosine": 0.99999, "snr": 46.0}, [0, 1])],
    ids=["default", "none below", "two below"],
)
def test_errors_show_values_thresholds_and_the_bad_layers(thresholds, bad) -> None:
    wanted = {"cosine": 0.99, "snr": 20.0} | thresholds
    snr, cosine = plots.error_curves(ERRORS, **thresholds).axes
    for axes, name, values in ((snr, "snr", [45, 12, 150]), (cosine, "cosine", [0.9999, 0.97, 1])):
        curve, marked, line = axes.lines
        assert list(curve.get_ydata()) == values
        assert list(marked.get_xdata()) == bad
        assert set(line.get_ydata()) == {wanted[name]}
    assert [label.get_text() for label in cosine.get_xticklabels()] == ["a", "b", "c"]


def test_curve_has_a_line_a_layer() -> None:
    figure = plots.amax_curves({"a": [(1, 0.5), (2, 0.75), (4, 0.8)], "b": [(1, 2.0)]})
    first, second = figure.axes[0].lines
    assert first.get_xydata().tolist() == [[1, 0.5], [2, 0.75], [4, 0.8]]
    assert second.get_xydata().tolist() == [[1, 2.0]]
    assert [first.get_label(), second.get_label()] == ["a", "b"]


@pytest.mark.parametrize("configured", [False, True], ids=["variable not set", "variable set"])
def test_nothing_is_written_at_home(configured: bool, tmp_path: Path) -> None:
    home, temporary = tmp_path / "home", tmp_path / "temporary"
    home.mkdir()
    temporary.mkdir()
    code = f"""
import os, sys
from pathlib import Path
before = dict(os.environ)
from yoloq.report import plots
plots.draw_bars(Path({str(tmp_path)!r}) / "picture.png", "t", ["a"], [1.0])
assert dict(os.environ) == before
assert "matplotlib.pyplot" not in sys.modules
"""
    environment = {k: v for k, v in os.environ.items() if k[:3] not in ("MPL", "XDG")}
    environment |= {"HOME": str(home), "USERPROFILE": str(home), "TMPDIR": str(temporary)}
    if configured:
        environment["MPLCONFIGDIR"] = str(home / "matplotlib")
    subprocess.run([sys.executable, "-B", "-c", code], env=environment, check=True)
    assert (tmp_path / "picture.png").stat().st_size > 1000
    assert not list(home.iterdir())
    assert not list(temporary.iterdir())
