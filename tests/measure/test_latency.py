"""Latency figures from known times, the order of the calls, and the whole path of an image."""

import gc
import time

import numpy as np
import pytest
from fake_predictor import FakePredictor, write_images

from yoloq.base.errors import DataError
from yoloq.measure import latency as module
from yoloq.measure.latency import GPU_WARMUP, end_to_end, measure, measure_predictors, summarize


def test_percentiles_are_in_milliseconds_and_fps_in_images():
    latency = summarize([0.001 * value for value in range(1, 102)], warmup=7, batch=4, threads=2)
    assert latency.p50 == pytest.approx(51)
    assert latency.p99 == pytest.approx(100)
    assert latency.mean == pytest.approx(51)
    assert latency.fps == pytest.approx(4000 / 51)
    assert (latency.runs, latency.warmup, latency.batch, latency.threads) == (101, 7, 4, 2)


@pytest.fixture
def no_rest(monkeypatch):
    """Turns follow one another at once."""
    monkeypatch.setattr(module, "REST", 0.0)


def test_calls_take_turns_and_warm_up_does_not_count(no_rest):
    order = []
    calls = {"a": lambda: order.append("a"), "b": lambda: order.append("b")}
    latencies = measure(calls, runs=7, warmup=2)
    assert "".join(order) == "abab" + "aaaaa" + "bbbbb" + "aa" + "bb"
    assert list(latencies) == ["a", "b"]
    assert latencies["b"].runs == 7
    assert latencies["b"].threads >= 1


def test_a_turn_counts_from_when_the_call_before_is_at_rest(monkeypatch):
    """`a` leaves a thread behind that slows what comes after it, as spinning threads do."""
    monkeypatch.setattr(module, "REST", 0.05)
    left = 0.0

    def a():
        nonlocal left
        left = time.perf_counter() + 0.03

    def b():
        time.sleep(0.01 if time.perf_counter() < left else 0.001)

    assert measure({"a": a, "b": b}, runs=6, warmup=1)["b"].p50 < 8


def test_a_call_alone_needs_no_rest(monkeypatch):
    monkeypatch.setattr(module, "REST", 60.0)
    assert measure({"a": lambda: None}, runs=6, warmup=1)["a"].runs == 6


def test_rounds_are_counted_on_stderr_where_a_title_is_given(capsys):
    measure({"a": lambda: None}, runs=3, warmup=1, title="time it")
    assert capsys.readouterr().err.startswith("time it: 4 runs, ")
    measure({"a": lambda: None}, runs=3, warmup=1)
    assert capsys.readouterr().err == ""


def test_a_slow_call_is_measured_as_slow():
    latencies = measure({"slow": lambda: time.sleep(0.02), "fast": lambda: None}, 5, 1)
    assert latencies["slow"].p50 >= 19
    assert latencies["slow"].p99 >= latencies["slow"].p50 > 100 * latencies["fast"].p50
    assert latencies["slow"].fps <= 1000 / 19


def test_the_collector_is_off_within_and_back_after_an_error():
    seen = []

    def fail():
        seen.append(gc.isenabled())
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        measure({"broken": fail})
    assert seen == [False]
    assert gc.isenabled()


class Watched(FakePredictor):
    """Says of itself that a call takes 2 ms, then 3 ms, and so on."""

    def stopwatch(self, images):
        self.watched = len(images)
        seconds = iter(0.001 * value for value in range(2, 1000))
        return lambda: next(seconds)


def test_predictors_with_a_stopwatch_are_timed_by_it_in_turn_with_the_others(no_rest):
    images = np.zeros((4, 64, 64, 3), np.uint8)
    plain, watched = FakePredictor(), Watched()
    found = measure_predictors({"plain": plain, "watched": watched}, images, runs=3)
    assert found["watched"].p50 == pytest.approx(GPU_WARMUP + 3), "the warm-up does not count"
    assert (found["watched"].clock, found["plain"].clock) == ("gpu", "wall")
    assert found["watched"].fps == pytest.approx(4000 / (GPU_WARMUP + 3))
    assert found["plain"].batch == watched.watched == 4
    assert plain.batches == [4] * (GPU_WARMUP + 3) and watched.batches == []


def test_without_a_stopwatch_the_warm_up_is_short():
    plain = FakePredictor()
    measure_predictors({"plain": plain}, np.zeros((1, 64, 64, 3), np.uint8), runs=3, warmup=2)
    assert plain.batches == [1] * 5


def test_no_run_is_refused():
    with pytest.raises(ValueError, match="1 or more, not 0"):
        measure({"a": lambda: None}, runs=0)


def test_end_to_end_takes_the_files_in_turn_one_at_a_time(tmp_path):
    predictor = FakePredictor()
    files = write_images(tmp_path, [0, 255, 0])
    latency = end_to_end(predictor, files, runs=5, warmup=2, threads=3)
    assert predictor.batches == [1] * 7
    assert (latency.runs, latency.warmup, latency.batch, latency.threads) == (5, 2, 1, 3)
    assert latency.p50 > 0


@pytest.mark.parametrize(("imgsz", "seen"), [(0, 64), (32, 32)])
def test_end_to_end_takes_the_models_size_unless_told(tmp_path, imgsz, seen):
    predictor = FakePredictor()
    end_to_end(predictor, write_images(tmp_path, [0]), imgsz=imgsz, runs=1, warmup=0)
    assert predictor.sizes == [seen]


def test_end_to_end_names_what_it_cannot_read(tmp_path):
    with pytest.raises(DataError, match=r"0\.png: cannot be read"):
        end_to_end(FakePredictor(), write_images(tmp_path, [None]))
    with pytest.raises(DataError, match="no image to time"):
        end_to_end(FakePredictor(), [])
