"""Run everything that only a GPU can tell, part by part, and leave one file to send."""

from dataclasses import dataclass
from pathlib import Path

from yoloq.base.errors import EngineError
from yoloq.base.files import check_writable
from yoloq.base.machine import has_gpu, torch_device, why_no_gpu
from yoloq.base.say import put, say
from yoloq.stages.gpu_check import GpuCheckConfig
from yoloq.stages.gpu_check.commands import chosen, run_part
from yoloq.stages.gpu_check.sheet import machine, sheet, write


@dataclass(frozen=True)
class Checked:
    """What a check came to: the file, and how many of its parts failed."""

    file: Path
    failed: int

    @property
    def exit_code(self) -> int:
        """1 where a part failed."""
        return int(self.failed > 0)


def run(config: GpuCheckConfig) -> Checked:
    """Write `gpu-check.zip`.

    Raises:
        UserError: there is no GPU to check, no such part, or the folder cannot be written.
    """
    parts = chosen(config)
    if not has_gpu() or torch_device(config.device).type != "cuda":
        raise EngineError(
            f"--device {config.device}: there is no GPU to check ({why_no_gpu()}); run it on a "
            "machine with an NVIDIA GPU, its driver, and PyTorch's CUDA build"
        )
    check_writable(config.folder)
    config.folder.mkdir(parents=True, exist_ok=True)
    facts = machine()
    outcomes = [run_part(part, config) for part in parts]
    text = sheet(facts, outcomes)
    file = write(config.folder, text, outcomes)
    put(text)
    say(f"written: {file}; it holds figures and what was printed, no weights and no images")
    return Checked(file, sum(bool(outcome.code) for outcome in outcomes))
