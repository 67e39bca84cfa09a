"""The calibrated model that QAT starts from: what the run has, or one of a policy of its own."""

from yoloq.base.result import StageResult
from yoloq.base.say import say
from yoloq.stages.ptq import PtqConfig
from yoloq.stages.ptq.stage import read_policy
from yoloq.stages.ptq.stage import run as run_ptq
from yoloq.stages.qat import QatConfig
from yoloq.stages.run import Inputs, as_config, earlier, existing


def check_policy(inputs: Inputs, config: QatConfig) -> None:
    """Find a slip in `--policy` before any work.

    Raises:
        PolicyError: the file holds no policy, or it does not fit the model.
    """
    if config.policy:
        read_policy(_calibration(config), inputs)


def calibrated_as(inputs: Inputs, config: QatConfig) -> StageResult:
    """The result of PTQ: what there is, but with `--policy` one of that policy.

    Another policy is calibrated with the default options of PTQ, in the place of what was there.
    """
    if not config.policy:
        return earlier(inputs, "ptq", run_ptq, PtqConfig)
    calibration = _calibration(config)
    policy, _ = read_policy(calibration, inputs)
    found = existing(inputs, "ptq")
    if found is not None and found.notes["policy"] == policy.to_json():
        return found
    say(f"--policy {config.policy}: running ptq with it first, with its default options")
    return run_ptq(calibration)


def _calibration(config: QatConfig) -> PtqConfig:
    return as_config(config, PtqConfig, policy=config.policy)
