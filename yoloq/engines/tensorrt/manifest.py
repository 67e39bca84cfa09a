"""The engine file: what a plan of TensorRT's was built from, for what, and the plan itself."""

import json
import struct
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from yoloq.base.errors import EngineError
from yoloq.base.files import replace_when_whole, writing
from yoloq.engines.predictor import ModelInfo

LENGTH = struct.Struct("<I")  # of the JSON, in front of it
LONGEST = 1 << 20  # bytes of JSON; a file that claims more is none of ours
FORMAT = "yoloq-tensorrt-1"
REBUILD = "build it here: make engine ENGINE=tensorrt ARGS=--force"


@dataclass(frozen=True)
class Manifest:
    """What travels with a plan.

    Attributes:
        model: a `ModelInfo` as JSON.
        precision: fp32, fp16, int8 or int8-implicit.
        float_type: the type of what is not int8.
        weights: sha256 of the checkpoint.
        policy: sha256 of the placement policy.
        tensorrt: full version of TensorRT.
        gpu: name of the GPU.
        capability: its compute capability, as in 9.0.
        batch: images at once that it is fastest at.
        max_batch: most images at once.
        options: `BuildOptions` as plain data.
    """

    model: str
    precision: str
    float_type: str
    weights: str
    policy: str
    tensorrt: str
    gpu: str
    capability: str
    batch: int
    max_batch: int
    options: dict[str, Any]

    @property
    def info(self) -> ModelInfo:
        """What an image needs to become named boxes."""
        return ModelInfo.from_json(self.model)


def gpu_name(device: torch.device) -> str:
    """Name of a GPU."""
    return str(torch.cuda.get_device_properties(device).name)


def capability(device: torch.device) -> str:
    """Compute capability of a GPU, as in 9.0."""
    properties = torch.cuda.get_device_properties(device)
    return f"{properties.major}.{properties.minor}"


def write_engine(file: Path, manifest: Manifest, plan: bytes | memoryview) -> None:
    """Write an engine file whole: a 4-byte little-endian length, that much JSON, the plan."""
    size = memoryview(plan).nbytes
    text = json.dumps({"format": FORMAT, "plan_bytes": size, **asdict(manifest)}).encode()
    with replace_when_whole(file) as temporary, writing(file), open(temporary, "wb") as stream:
        stream.write(LENGTH.pack(len(text)))
        stream.write(text)
        stream.write(plan)


def read_engine(file: Path) -> tuple[Manifest, bytes]:
    """The two parts of a file that `write_engine` wrote.

    Raises:
        EngineError: it is missing, another kind of file, not whole, or of another version.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise EngineError(f"{file}: cannot be read ({error.strerror}); {REBUILD}") from None
    data, plan = _split(content)
    if data is None or data.pop("format", None) != FORMAT:
        raise EngineError(f"{file}: is no engine file of this project; {REBUILD}")
    try:
        wanted = data.pop("plan_bytes")
        manifest = Manifest(**data)
        ModelInfo.from_json(manifest.model)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise EngineError(f"{file}: is of another version ({error}); {REBUILD}") from None
    if len(plan) != wanted:
        raise EngineError(f"{file}: is cut off ({len(plan)} of {wanted} bytes); {REBUILD}")
    return manifest, plan


def _split(content: bytes) -> tuple[dict[str, Any] | None, bytes]:
    """The JSON (None where there is none) and what follows it."""
    if len(content) < LENGTH.size:
        return None, b""
    end = LENGTH.size + LENGTH.unpack_from(content)[0]
    if end > min(len(content), LENGTH.size + LONGEST):
        return None, b""
    try:
        data = json.loads(content[LENGTH.size : end])
    except ValueError:
        return None, b""
    return (data if isinstance(data, dict) else None), content[end:]


def check_fits(file: Path, manifest: Manifest, trt: ModuleType, device: torch.device) -> None:
    """Compare what an engine was built for with what is here.

    A plan runs only on the version of TensorRT and the kind of GPU that it was built with, unless
    it was built to be compatible, which costs speed.

    Raises:
        EngineError: it was built for another; says for which.
    """
    version = str(trt.__version__)
    if _release(manifest.tensorrt) != _release(version):
        raise EngineError(
            f"{file}: was built with TensorRT {manifest.tensorrt}, here is {version}; {REBUILD}"
        )
    built = (manifest.gpu, manifest.capability)
    here = (gpu_name(device), capability(device))
    if built != here:
        raise EngineError(
            f"{file}: was built for {built[0]} (compute capability {built[1]}), here is {here[0]} "
            f"({here[1]}); {REBUILD}"
        )


def _release(version: str) -> list[str]:
    """Major, minor and patch."""
    return version.split(".")[:3]
