"""What a build can take over from the last: measured kernel times, and calibrated ranges."""

import hashlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from yoloq.base.files import replace_when_whole, sha256_text, writing
from yoloq.engines.tensorrt.manifest import capability, gpu_name


def load_cache(file: Path, key: str) -> bytes | None:
    """What `save_cache` wrote under this key; None where that is missing or damaged."""
    try:
        header, _, data = file.read_bytes().partition(b"\n")
        wanted = json.loads(header)
    except (OSError, ValueError):
        return None  # it is only a cache: measure again
    return data if wanted == {"key": key, "sha256": hashlib.sha256(data).hexdigest()} else None


def save_cache(file: Path, key: str, data: bytes) -> None:
    """Write data under the key of all that it depends on, whole."""
    header = json.dumps({"key": key, "sha256": hashlib.sha256(data).hexdigest()})
    with replace_when_whole(file) as temporary, writing(file):
        temporary.write_bytes(header.encode() + b"\n" + data)


def timing_key(trt: ModuleType, device: torch.device) -> str:
    """What kernel times depend on: GPU, compute capability, version of TensorRT."""
    return f"{gpu_name(device)}, {capability(device)}, {trt.__version__}"


def timing_file(folder: Path, key: str) -> Path:
    """One file for each key: a run folder may be used on several machines in turn."""
    return folder / f"tensorrt-timing-{sha256_text(key)[:8]}.cache"


class TimingCache:
    """Kernel times that a build looks up in a file, and adds to.

    Args:
        config: of the builder.
        folder: that keeps the file.
        key: what the times depend on, as `timing_key` says.
    """

    def __init__(self, config: Any, folder: Path, key: str) -> None:
        self.config, self.key, self.file = config, key, timing_file(folder, key)
        data = load_cache(self.file, key)
        for content in (data, b"") if data else (b"",):
            cache = config.create_timing_cache(content)
            if cache is not None and config.set_timing_cache(cache, ignore_mismatch=False):
                return

    def keep(self) -> None:
        """Write the file with what the build measured."""
        cache = self.config.get_timing_cache()
        if cache is not None:
            save_cache(self.file, self.key, bytes(memoryview(cache.serialize())))
