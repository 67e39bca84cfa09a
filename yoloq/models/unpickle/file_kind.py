"""What kind of file something is that was given as a checkpoint, before any of it is unpickled."""

import pickletools
import zipfile
from collections.abc import Iterator
from pathlib import Path

from yoloq.base.errors import CheckpointError
from yoloq.base.files import LFS_ADVICE, is_lfs_pointer

# torch's format before 1.6 begins with a pickle of its magic number, of any protocol.
PROTOCOL = b"\x80"
LEGACY_MAGIC = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
START = 32  # bytes that hold it


def check_kind(file: Path) -> None:
    """Raise unless the file begins and ends like a file of `torch.save`.

    Raises:
        CheckpointError: it is none, with what it is instead.
    """
    if not file.exists():
        raise CheckpointError(f"{file}: no such file; give a checkpoint with --weights")
    if file.is_dir():
        raise CheckpointError(f"{file}: a folder; give the .pt file in it")
    if not file.is_file():
        raise CheckpointError(f"{file}: not a file; give the .pt file of a detector")
    with open(file, "rb") as stream:
        start = stream.read(START)
    if not start:
        raise CheckpointError(f"{file}: empty; fetch it again")
    if is_lfs_pointer(file):
        raise CheckpointError(f"{file}: {LFS_ADVICE}")
    if start.startswith(PROTOCOL) and LEGACY_MAGIC in start:
        return
    if not start.startswith(b"PK\x03\x04"):
        raise CheckpointError(f"{file}: not a PyTorch checkpoint; give a .pt file of a detector")
    if not zipfile.is_zipfile(file):
        raise CheckpointError(f"{file}: truncated; fetch it again")
    with zipfile.ZipFile(file) as archive:
        members = {name.partition("/")[2] for name in archive.namelist()}
    if "constants.pkl" in members:
        raise CheckpointError(f"{file}: a TorchScript export; give the checkpoint it was made from")
    if "data.pkl" not in members:
        raise CheckpointError(f"{file}: a zip archive, but not a PyTorch checkpoint")


def pickled_names(file: Path) -> Iterator[str]:
    """The global names in a file's pickles, as far as they can be read; nothing runs.

    Protocol 4 puts module and name on a stack: a name is yielded with every module before it.
    """
    texts: list[str] = []
    try:
        for pickled in _pickles(file):
            for code, argument, _ in pickletools.genops(pickled):
                if code.name == "GLOBAL":
                    yield str(argument).replace(" ", ".")
                elif code.name == "STACK_GLOBAL":
                    yield from (f"{module}.{texts[-1]}" for module in texts if "." in module)
                elif isinstance(argument, str):
                    texts.append(argument)
    except Exception:  # what is damaged says no more
        return


def _pickles(file: Path) -> Iterator[bytes]:
    if not zipfile.is_zipfile(file):  # torch's old format: magic number, version, sizes, content
        with open(file, "rb") as stream:
            for _ in range(3):
                for _ in pickletools.genops(stream):
                    pass
            yield stream.read()
        return
    with zipfile.ZipFile(file) as archive:
        yield from (archive.read(n) for n in archive.namelist() if n.endswith("/data.pkl"))
