"""Work of convolutions by hand, the least time that follows, and limits that are plausible."""

import pytest
import torch
from torch import nn

from yoloq.measure.limits import Limits, Work, floor_ms, machine_limits, work_of

LIMITS = Limits({"fp32": 1e9, "int8": 4e9}, bandwidth=1e9)


def test_work_is_counted_by_hand() -> None:
    """3 x 3, stride 2, 3 -> 8 channels on 32 pixels; then 4 groups of 2 channels."""
    net = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.SiLU(), nn.Conv2d(8, 8, 1, groups=4))
    work = work_of(net, 32)
    assert work == {
        "0": Work(2 * 27 * 8 * 16 * 16, 3 * 32 * 32 + 27 * 8 + 8 * 16 * 16),
        "2": Work(2 * 2 * 8 * 16 * 16, 8 * 16 * 16 + 16 + 8 * 16 * 16),
    }
    assert not [hook for module in net for hook in module._forward_hooks]


@pytest.mark.parametrize(
    ("work", "precision", "threads", "ms"),
    [
        pytest.param(Work(4_000_000, 1000), "fp32", 1, 4.0, id="products"),
        pytest.param(Work(4_000_000, 1000), "int8", 1, 1.0, id="int8 has four times as many"),
        pytest.param(Work(4_000_000, 1000), "int8", 2, 0.5, id="threads"),
        pytest.param(Work(1000, 500_000), "fp32", 1, 2.0, id="bytes"),
        pytest.param(Work(1000, 500_000), "int8", 1, 0.5, id="a byte an element"),
        pytest.param(Work(1000, 1000), "fp16", 1, None, id="not known"),
    ],
)
def test_the_least_time(work: Work, precision: str, threads: int, ms: float | None) -> None:
    assert work.floor_ms(precision, LIMITS, threads) == ms


def test_the_least_time_of_a_network_is_known_where_each_layer_s_is() -> None:
    work = {"a": Work(4_000_000, 0), "b": Work(1_000_000, 0)}
    assert floor_ms(work, {"a": "int8", "b": "fp32"}, LIMITS, 1) == 2.0
    assert floor_ms(work, {"a": "int8", "b": "fp16"}, LIMITS, 1) is None


def test_limits_of_this_machine() -> None:
    threads = torch.get_num_threads()
    found = machine_limits()
    assert torch.get_num_threads() == threads
    assert {"fp32", "int8"} <= found.operations.keys() <= {"fp32", "bf16", "int8"}
    assert all(1e8 < each < 1e14 for each in found.operations.values())
    assert 1e8 < found.bandwidth < 1e13
    assert machine_limits() is found
