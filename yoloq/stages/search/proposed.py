"""What a search ends with: the table, the verdict, and the policy that it proposes."""

import json

from yoloq.base.files import write_text
from yoloq.base.own_files import MAKE
from yoloq.base.result import StageResult
from yoloq.base.say import say
from yoloq.quant.policy import Policy
from yoloq.report.tables import show
from yoloq.stages.search import SearchConfig

POLICY = "search-policy.json"


def tell(result: StageResult) -> None:
    """Print what the search came to; results of earlier versions have no table."""
    if table := result.notes.get("table"):
        show(table)
    say(result.notes["verdict"])


def write_policy(config: SearchConfig, policy: Policy | None) -> dict[str, str]:
    """The policy of an answer in integers; that of an earlier search goes."""
    file = config.folder / POLICY
    file.unlink(missing_ok=True)
    if policy is None:
        return {}
    write_text(file, json.dumps(policy.to_json(), indent=1) + "\n")
    say(f"its policy: {MAKE} ptq ARGS='--policy {file}'")
    return {"policy": POLICY}
