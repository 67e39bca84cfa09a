"""`--schedule`: the order in which layers join, and the sweep that it is read from."""

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from tiny_quant import tiny_quantized

from yoloq.base.errors import UserError
from yoloq.quant.policy import Policy, Rule
from yoloq.quant.spec import ACTIVATION, WEIGHT
from yoloq.stages.qat import QatConfig, order
from yoloq.stages.qat.order import SCHEDULES
from yoloq.train.parallel import Processes

SOME = Policy((Rule("model.2.cv*", WEIGHT, ACTIVATION), Rule("model.5", WEIGHT, None)))
CONVS = ("model.2.cv1.conv", "model.2.cv2.conv", "model.2.cv3.conv")


def test_the_flag_has_every_schedule() -> None:
    choices = QatConfig.__dataclass_fields__["schedule"].metadata["choices"]
    assert set(choices) == set(SCHEDULES)


@pytest.mark.parametrize(
    ("schedule", "ranking", "wanted"),
    [
        pytest.param("all", (), (), id="all at once"),
        pytest.param("front-to-back", (), (CONVS, ("model.5.conv",)), id="as they run"),
        pytest.param(
            *("by-sensitivity", ("model.5", "model.7", "model.2")),
            *((("model.5.conv",), CONVS),),
            id="by blocks, one of them in float",
        ),
        pytest.param(
            *("by-sensitivity", ("model.2.cv2.conv", "model.2.cv1.conv")),
            *((("model.2.cv2.conv",), ("model.2.cv1.conv",)),),
            id="by convolutions, not all of them swept",
        ),
    ],
)
def test_groups(schedule: str, ranking: tuple[str, ...], wanted: Any) -> None:
    assert SCHEDULES[schedule](tiny_quantized(policy=SOME).placement, ranking) == wanted


@pytest.mark.parametrize(
    ("schedule", "ranges", "world", "refused"),
    [
        pytest.param("front-to-back", "learned", 2, True, id="steps without a gradient"),
        pytest.param("front-to-back", "learned", 1, False, id="one process"),
        pytest.param("front-to-back", "frozen", 2, False, id="no steps"),
        pytest.param("all", "learned", 2, False, id="all at once"),
    ],
)
def test_learned_ranges_that_join_late_are_for_one_process(
    schedule: str, ranges: str, world: int, refused: bool
) -> None:
    config = QatConfig(schedule=schedule, ranges=ranges)
    group = Processes(0, world, torch.device("cpu"))
    with pytest.raises(UserError, match="--schedule front-to-back") if refused else nullcontext():
        order.check_schedule(config, group)


def swept(name: str, gain: float | None, places: float | None = None) -> dict[str, Any]:
    """A line of the sweep; the gains are of keeping the layer in float."""
    return {"name": name, "fidelity_gain": gain and [gain, 0.0, 0.0], "places_gain": places}


def test_least_sensitive_first_and_what_was_only_screened_before_all(monkeypatch) -> None:
    layers = [swept("a", 0.02), swept("b", -0.01), swept("c", 0.05)]  # by what a gain costs
    layers += [swept("d", None, 0.3), swept("e", None, 0.1), swept("f", None)]

    class Found:
        notes = {"layers": layers}  # noqa: RUF012

    monkeypatch.setattr(order, "existing", lambda inputs, stage: Found())
    assert order.read_ranking(None) == ("f", "e", "d", "b", "a", "c")
