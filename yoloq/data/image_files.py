"""What a split of a data yaml may name: folders and list files; and their image files."""

import os
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path, PureWindowsPath

from yoloq.base.errors import DataError
from yoloq.base.files import LFS, LFS_ADVICE
from yoloq.data.images import is_image


def find(entry: str, root: Path, where: str) -> Path:
    """The existing file or folder that an entry of the yaml means; `where` names the entry.

    Relative entries are tried against `root`; where that fails, `../x` also means `root/x`, as
    YOLOv5 allows for exports that were unpacked one level higher.

    Raises:
        DataError: nothing there, or yaml read a backslash of the entry as an escape.
    """
    check_escapes(entry, where)
    tries = [root / each for each in spellings(entry)]
    if (plain := portable(entry)).startswith("../"):
        tries.append(root / plain[3:])
    for path in tries:
        if path.exists():
            return Path(os.path.normpath(path))
    raise DataError(f"{where}: {os.path.normpath(tries[0])} does not exist; mend it or `path`")


def list_images(source: Path, root: Path) -> tuple[Path, ...]:
    """Image files of a folder (searched through, sorted) or a .txt list (in its order).

    Raises:
        DataError: none there, or neither a folder nor a list.
    """
    if source.is_dir():
        files: Iterable[Path] = _inside(source)
    elif source.suffix.lower() == ".txt":
        files = _listed(source, root)
    else:
        raise DataError(f"{source}: want a folder, a .txt list or a COCO .json")
    found = unique(files)
    if not found:
        raise DataError(
            f"{source}: holds no images (looked for .jpg, .png and the like); check the path"
        )
    return found


def files_of(images: str | Path | Sequence[str | Path]) -> tuple[Path, ...]:
    """Image files of a folder, of a .txt list, or as they are given.

    Raises:
        DataError: none there.
    """
    if not isinstance(images, str | Path):
        return unique(Path(file) for file in images)
    source = Path(images)
    if not source.exists():
        raise DataError(f"{source}: does not exist; give a folder, a list or image files")
    return (source,) if is_image(source) else list_images(source, source.parent)


def _inside(folder: Path) -> list[Path]:
    """Sorted image files at any depth; linked folders are followed, hidden ones are not."""
    found: list[Path] = []
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not _is_passed(name, parent)]
        found += [file for name in names if is_image(file := Path(parent, name))]
    return sorted(found)


def _is_passed(name: str, parent: str) -> bool:
    """Whether a folder is hidden, or a link to a folder that it lies in."""
    path = os.path.join(parent, name)
    if name.startswith(".") or not os.path.islink(path):
        return name.startswith(".")
    return Path(os.path.realpath(parent)).is_relative_to(os.path.realpath(path))


def _listed(source: Path, root: Path) -> list[Path]:
    """Paths in a list file: relative to the list, else to the set's root, else to the cwd."""
    lines = [line.strip() for line in read_text(source).splitlines()]
    return [_resolve(line, (source.parent, root, Path.cwd())) for line in lines if line]


def _resolve(line: str, bases: Sequence[Path]) -> Path:
    """First base that has the file; the first base where none has it (skipped when read)."""
    tries = [base / name for name in spellings(line) for base in bases]
    return next((file for file in tries if file.exists()), bases[0] / portable(line))


def check_escapes(entry: str, where: str) -> None:
    """Find a path of Windows in double quotes; `where` names the entry of the yaml.

    Raises:
        DataError: yaml read a backslash of it as an escape.
    """
    if any(character < " " for character in entry):
        raise DataError(
            f"{where}: {entry!r} holds a control character, as yaml makes of a backslash in double "
            "quotes; write / instead"
        )


def portable(name: str) -> str:
    """A file name with the separators that every system reads, and accents in one character."""
    return unicodedata.normalize("NFC", name.replace("\\", "/"))


def spellings(name: str) -> tuple[str, ...]:
    """A file name as it is, and as it was meant where it was written on Windows or macOS.

    A drive of Windows is no folder here: what its path ends in is tried, the longest first.
    """
    meant = portable(name)
    parts = meant.split("/")[1:] if PureWindowsPath(meant).drive else []
    ends = ["/".join(parts[start:]) for start in range(len(parts))]
    tries = [name, *(form for each in (meant, *ends) for form in (each, _apart(each)))]
    return tuple(dict.fromkeys(each for each in tries if each))


def _apart(name: str) -> str:
    """A file name with accents as characters of their own, as macOS writes them."""
    return unicodedata.normalize("NFD", name)


def unique(files: Iterable[Path]) -> tuple[Path, ...]:
    """Files without repetitions, in order: an image listed twice would count twice in mAP."""
    return tuple(dict.fromkeys(Path(os.path.normpath(file)) for file in files))


def read_text(file: Path) -> str:
    """Read UTF-8 text, with or without a byte order mark.

    Raises:
        DataError: missing, not permitted, not text, or a Git LFS pointer.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror}); check it") from None
    except UnicodeDecodeError:
        raise DataError(f"{file}: is not a text file in UTF-8; save it as that") from None
    if text.startswith(LFS.decode()):
        raise DataError(f"{file}: {LFS_ADVICE}")
    return text
