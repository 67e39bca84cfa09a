"""The float model in a file that was given as weights: a checkpoint, or a codebook."""

import zipfile
from pathlib import Path

from yoloq.base.errors import CheckpointError
from yoloq.base.own_files import MAKE
from yoloq.models.load import LoadedModel, load_model
from yoloq.models.unpickle.zip_file import check_directory
from yoloq.quant.codebook.codes_file import load_codes

CODES, PACKED = "meta.npy", "index.npy"  # a member that is in no other file


def load_weights(path: str | Path) -> LoadedModel:
    """The fused model of a checkpoint (`load_model`), or of a codebook file (`load_codes`).

    Raises:
        CheckpointError: it can be read as neither; a packed file has integers alone.
    """
    file = Path(path)
    members = _members(file)
    if CODES in members:
        return load_codes(file)
    if PACKED in members:
        raise CheckpointError(
            f"{file}: holds the packed integers of a calibrated model, which is not calibrated "
            f"again; give the checkpoint it was made from, or a `{MAKE} codebook` file"
        )
    return load_model(file)


def _members(file: Path) -> set[str]:
    """Names in an npz file; of any other there is none that counts here."""
    try:
        with open(file, "rb") as stream:
            check_directory(stream, file.stat().st_size)
        with zipfile.ZipFile(file) as archive:
            return set(archive.namelist())
    except (OSError, zipfile.BadZipFile, CheckpointError):  # what the reader of checkpoints names
        return set()
