"""Check an ONNX file against the rules of the engine that is to run it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, external_data_helper

from yoloq.base.errors import EngineError, UserError
from yoloq.base.files import LFS_ADVICE, is_lfs_pointer
from yoloq.base.own_files import MAKE
from yoloq.base.say import put
from yoloq.engines.tensorrt.library import RTX
from yoloq.engines.tensorrt.onnx_parser import refusals
from yoloq.graph.lint.table import LintFinding, lint
from yoloq.graph.lint.valid import READ_WHOLE, size
from yoloq.stages.lint_onnx import LintConfig
from yoloq.stages.lint_onnx.outputs import dead_outputs

WIDEST = 16  # bytes of a number
SHOWN = 3  # nodes named in a finding's line, without --all


@dataclass(frozen=True)
class Linted:
    """What is wrong with a file for an engine; `remarks` say what else was tried on it."""

    stage: str
    file: str
    target: str
    findings: tuple[LintFinding, ...]
    remarks: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        """1 where a finding is an error."""
        return int(any(finding.level == "error" for finding in self.findings))


def run(config: LintConfig) -> Linted:
    """Print the findings.

    Raises:
        UserError: there is no file, or it is no ONNX file.
    """
    if not config.onnx:
        raise UserError(f"no ONNX file is given: {MAKE} lint-onnx ONNX=model.onnx TARGET=tensorrt")
    file = Path(config.onnx)
    findings, remarks = lint(read_model(file), config.target), []
    if wants_parser(config):
        refused = refusals(file)
        findings = [*refused, *findings]
        version = RTX.load().__version__
        remarks.append(f"asked TensorRT's own parser (for RTX, {version}): {parsed(refused)}")
    if config.run:
        try:
            findings = [*dead_outputs(file, config.data, config.run), *findings]
        except EngineError as error:
            remarks.append(_one_line(f"not run: {error}"))
    for remark in remarks:
        put(remark)
    for finding in findings:
        put(describe(finding, len(finding.nodes) if config.all else SHOWN))
    put(summary(file, config.target, findings))
    return Linted("lint_onnx", str(file), config.target, tuple(findings), tuple(remarks))


def wants_parser(config: LintConfig) -> bool:
    """Whether TensorRT's own parser is to be asked."""
    here = config.parse == "auto" and RTX.is_installed()
    return config.target == "tensorrt" and (config.parse == "on" or here)


def parsed(refused: Sequence[LintFinding]) -> str:
    """What it said, in words."""
    count = sum(len(finding.nodes) for finding in refused)
    return f"it refuses {_count(count, 'node')}" if refused else "it reads the file"


def read_model(file: Path) -> onnx.ModelProto:
    """The model of a file, without the weights that lie beside it.

    Raises:
        UserError: it is no ONNX file, or small external data (scales) is missing.
        OSError: it cannot be read.
    """
    try:
        model = onnx.ModelProto.FromString(file.read_bytes())
    except DecodeError:
        model = onnx.ModelProto()
    if is_lfs_pointer(file):
        raise UserError(f"{file}: {LFS_ADVICE}")
    if not model.ir_version or not model.HasField("graph"):
        raise UserError(f"{file}: is no ONNX file, or is damaged; export it again")
    for tensor in model.graph.initializer:
        small = size(tensor) <= READ_WHOLE
        if small and tensor.data_location == TensorProto.EXTERNAL:
            _load(tensor, file)
    return model


def _load(tensor: TensorProto, file: Path) -> None:
    try:
        _check_length(tensor, file)
        external_data_helper.load_external_data_for_tensor(tensor, str(file.parent))
    except (onnx.checker.ValidationError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{file}: the data of {tensor.name} cannot be read ({reason}); "
            "keep the file of external data beside it"
        ) from None
    tensor.data_location = TensorProto.DEFAULT
    del tensor.external_data[:]


def _check_length(tensor: TensorProto, file: Path) -> None:
    """Raise a ValueError where so few numbers would be read from many bytes."""
    about = {entry.key: entry.value for entry in tensor.external_data}
    length = about.get("length") or (file.parent / about.get("location", "")).stat().st_size
    if int(length) > WIDEST * READ_WHOLE:
        raise ValueError(f"{length} bytes for {size(tensor)} numbers")


def describe(finding: LintFinding, shown: int = SHOWN) -> str:
    """One line: level, rule, what is wrong, where (so many nodes), and the fix."""
    text = f"{finding.level:8} {finding.rule}: {finding.message}{_where(finding.nodes, shown)}"
    return _one_line(f"{text}; fix: {finding.fix}")


def _where(nodes: Sequence[str], shown: int) -> str:
    if not nodes:
        return ""
    more = f" and {len(nodes) - shown} more: --all" if len(nodes) > shown else ""
    return f" [{', '.join(nodes[:shown])}{more}]"


def _one_line(text: str) -> str:
    """Names may hold anything; what is not printable becomes an escape."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def summary(file: Path, target: str, findings: Sequence[LintFinding]) -> str:
    """The last line: how many errors and warnings."""
    levels = [finding.level for finding in findings]
    counts = (_count(levels.count(level), level) for level in ("error", "warning"))
    return f"{file} for {target}: {', '.join(counts)}"


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
