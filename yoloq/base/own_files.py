"""What comes with yoloq, weights and a data definition: beside it in a clone, in it elsewhere."""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
ROOT = PACKAGE.parent  # of a clone
CARRIED = PACKAGE / "carried"  # where a wheel has what a clone has in ROOT; see pyproject.toml
INSTALLED = CARRIED.is_dir()
HOME = CARRIED if INSTALLED else ROOT
WEIGHTS, DATA = HOME / "weights" / "yolov5n.pt", HOME / "data" / "synthetic.yaml"
MAKE = "yoloq" if INSTALLED else "make"  # what a stage is run with; both know make's variables


def folder_of_drawn(file: Path) -> Path:
    """Folder that the pictures of a yaml which has them drawn are relative to.

    Beside the yaml; for one in an installed package `data` of the working directory, as in a clone:
    packages are replaced, and may not be the user's to write in.
    """
    return Path.cwd() / "data" if file.is_relative_to(CARRIED) else file.parent
