"""The engine file: what a plan of TensorRT's was built from, for what, and the plan itself."""

import json
import struct
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from yoloq.base.errors import EngineError
from yoloq.base.files import replace_when_whole, writing
from yoloq.engines.options import dla_core
from yoloq.engines.predictor import ModelInfo
from yoloq.engines.tensorrt.inspector import LayerInfo
from yoloq.engines.tensorrt.library import Library

LENGTH = struct.Struct("<I")  # of the JSON, in front of it
LONGEST = 1 << 24  # bytes of JSON; a file that claims more is none of ours


@dataclass(frozen=True)
class Target:
    """What a plan is for: the GPU here, or any GPU of some compute capabilities.

    Attributes:
        device: the GPU here, on which kernels are measured; None: none are.
        capabilities: as in 8.9.
    """

    device: torch.device | None
    capabilities: tuple[str, ...]

    @staticmethod
    def of(device: torch.device) -> "Target":
        """A GPU that is here."""
        return Target(device, (capability(device),))

    @property
    def measures(self) -> bool:
        """Whether the builder chooses kernels by measuring them."""
        return self.device is not None

    @property
    def gpu(self) -> str:
        """Name of the only GPU that it is for; empty where all of a capability will do."""
        return "" if self.device is None else gpu_name(self.device)


@dataclass(frozen=True)
class Manifest:
    """What travels with a plan.

    Attributes:
        model: a `ModelInfo` as JSON.
        precision: fp32, fp16, int8 or int8-implicit.
        float_type: the type of what is not int8.
        weights: sha256 of the checkpoint.
        policy: sha256 of the placement policy.
        version: full version of the library that built it.
        gpu: name of the GPU; empty: any of the capabilities.
        capabilities: compute capabilities, as in 9.0.
        batch: images at once that it is fastest at.
        max_batch: most images at once.
        options: `BuildOptions` as plain data.
        layers: `LayerInfo`s as plain data, where only the builder tells them.
    """

    model: str
    precision: str
    float_type: str
    weights: str
    policy: str
    version: str
    gpu: str
    capabilities: list[str]
    batch: int
    max_batch: int
    options: dict[str, Any]
    layers: list[dict[str, Any]] = field(default_factory=list)

    @property
    def info(self) -> ModelInfo:
        """What an image needs to become named boxes."""
        return ModelInfo.from_json(self.model)

    @property
    def dla(self) -> int | None:
        """The core of the DLA that it runs on; None: the GPU alone."""
        return dla_core(self.options.get("dla", -1), self.precision)

    @property
    def built_layers(self) -> list[LayerInfo]:
        """What the builder said that it built; empty where the engine itself says it."""
        return [LayerInfo.from_json(layer) for layer in self.layers]


def gpu_name(device: torch.device) -> str:
    """Name of a GPU."""
    return str(torch.cuda.get_device_properties(device).name)


def capability(device: torch.device) -> str:
    """Compute capability of a GPU, as in 9.0."""
    properties = torch.cuda.get_device_properties(device)
    return f"{properties.major}.{properties.minor}"


def format_of(library: Library) -> str:
    """How the manifest of an engine file of a library is marked."""
    return f"yoloq-{library.engine}-1"


def write_engine(
    library: Library, file: Path, manifest: Manifest, plan: bytes | memoryview
) -> None:
    """Write an engine file whole: a 4-byte little-endian length, that much JSON, the plan."""
    size = memoryview(plan).nbytes
    header = {"format": format_of(library), "plan_bytes": size, **asdict(manifest)}
    text = json.dumps(header).encode()
    with replace_when_whole(file) as temporary, writing(file), open(temporary, "wb") as stream:
        stream.write(LENGTH.pack(len(text)))
        stream.write(text)
        stream.write(plan)


def read_engine(library: Library, file: Path) -> tuple[Manifest, bytes]:
    """The two parts of a file that `write_engine` wrote.

    Raises:
        EngineError: it is missing, another kind of file, not whole, or of another version.
    """
    rebuild = library.rebuild
    try:
        content = file.read_bytes()
    except OSError as error:
        raise EngineError(f"{file}: cannot be read ({error.strerror}); {rebuild}") from None
    data, plan = _split(content)
    if data is None or data.pop("format", None) != format_of(library):
        raise EngineError(f"{file}: is no {library.engine} engine file of this project; {rebuild}")
    try:
        wanted = data.pop("plan_bytes")
        manifest = Manifest(**data)
        ModelInfo.from_json(manifest.model)
    except (AttributeError, KeyError, TypeError, ValueError, EngineError) as error:
        reason = str(error).partition(";")[0]
        raise EngineError(f"{file}: is of another version ({reason}); {rebuild}") from None
    if len(plan) != wanted:
        raise EngineError(f"{file}: is cut off ({len(plan)} of {wanted} bytes); {rebuild}")
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


def check_fits(library: Library, file: Path, manifest: Manifest, device: torch.device) -> None:
    """Compare what an engine was built for with what is here.

    A plan runs only on the version of the library that it was built with, unless it was built to
    be compatible, which costs speed; TensorRT's only on the kind of GPU, too.

    Raises:
        EngineError: it was built for another; says for which.
    """
    version = str(library.load().__version__)
    if _release(manifest.version) != _release(version):
        raise EngineError(
            f"{file}: was built with {library.title} {manifest.version}, here is {version}; "
            f"{library.rebuild}"
        )
    name, here = gpu_name(device), capability(device)
    if here not in manifest.capabilities or manifest.gpu not in ("", name):
        raise EngineError(
            f"{file}: was built for {manifest.gpu or 'GPUs'} (compute capability "
            f"{', '.join(manifest.capabilities)}), here is {name} ({here}); {library.rebuild}"
        )


def _release(version: str) -> list[str]:
    """Major, minor and patch."""
    return version.split(".")[:3]
