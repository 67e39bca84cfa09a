"""What kind of file something is that was given as a checkpoint, before any of it is unpickled."""

import zipfile
from pathlib import Path

from yoloq.base.errors import CheckpointError
from yoloq.base.files import LFS_ADVICE, is_lfs_pointer
from yoloq.models.unpickle.zip_file import PICKLE, check_directory, check_parts, root_of

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
    members = _members(file)
    if "constants.pkl" in members:
        raise CheckpointError(f"{file}: a TorchScript export; give the checkpoint it was made from")
    if PICKLE not in members and file.suffix == ".npz":
        raise CheckpointError(f"{file}: arrays, no PyTorch checkpoint; give the .pt file")
    if PICKLE not in members:
        raise CheckpointError(f"{file}: a zip archive, but not a PyTorch checkpoint")


def _members(file: Path) -> set[str]:
    """The parts in the first part's folder of an archive, whose sizes are in bounds."""
    size = file.stat().st_size
    try:
        with open(file, "rb") as stream:
            check_directory(stream, size)
        with zipfile.ZipFile(file) as archive:
            check_parts(archive, size)
            names = archive.namelist()
            root = f"{root_of(archive)}/" if names else ""
    except CheckpointError as error:
        raise CheckpointError(f"{file}: {error}") from None
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError) as error:
        raise CheckpointError(f"{file}: truncated or damaged ({error}); fetch it again") from None
    return {name.removeprefix(root) for name in names if name.startswith(root)}
