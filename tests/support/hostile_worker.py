"""Reads checkpoints one by one and says, a JSON line each, how that ended and what it took."""

import json
import re
import sys
import time
from pathlib import Path

from deeds import deeds

from yoloq.base.errors import CheckpointError
from yoloq.base.own_files import WEIGHTS
from yoloq.models.load import load_model

STATUS = Path("/proc/self/status")


def kilobytes(field: str) -> int:
    found = re.search(rf"{field}:\s+(\d+) kB", STATUS.read_text())
    assert found is not None
    return int(found[1])


def read(file: Path) -> dict[str, object]:
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before, began = kilobytes("VmRSS"), time.perf_counter()
    with deeds() as done:
        end, message = ending(file)
    seconds = time.perf_counter() - began
    taken = 1024 * (kilobytes("VmHWM") - before)
    return {
        **{"file": file.name, "end": end, "message": message, "deeds": list(done)},
        **{"seconds": seconds, "bytes": taken},
    }


def ending(file: Path) -> tuple[str, str]:
    try:
        load_model(file)
        return "loaded", ""
    except CheckpointError as error:
        return "refused", str(error)
    except BaseException as error:
        return type(error).__name__, str(error)


if __name__ == "__main__":
    load_model(WEIGHTS)  # what is imported late is no deed of the first file
    for name in sys.argv[1:]:
        print(json.dumps(read(Path(name))), flush=True)
