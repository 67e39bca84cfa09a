"""Coverage-guided fuzzing of the checkpoint reader: `make fuzz-checkpoint`.

The first byte of an input says how the rest is wrapped: as the pickle of a zip file, as that of a
file from before 1.6, or as a whole file. Whatever it is, reading ends with content or with one
line, and touches nothing else; libFuzzer stops at what takes over ten seconds or two gigabytes.

    python fuzz_checkpoint.py SECONDS FOLDER

The folder keeps the inputs that reached new code; the next run starts from them.
"""

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["pickle", "yoloq.models.unpickle"]):
    import pickle

    from yoloq.models import unpickle
    from yoloq.models.unpickle import calls, storages

sys.path.insert(0, str(Path(__file__).parent.parent / "support"))

from deeds import deeds
from hostile_files import CORPUS, HEAD, archive, legacy

from yoloq.base.errors import CheckpointError
from yoloq.base.own_files import WEIGHTS

assert pickle  # instrumented, as the machine is made of it
WRAPPED, OLD, WHOLE = b"z", b"l", b"w"
PARTS = {"data/0": bytes(64), "data/1": bytes(4096)}
LARGEST = 1 << 12  # bytes of an input; a pickle of that size has every step in it
WORDS = [*calls.CALLS, *(f"torch.{name}" for name in storages.DTYPES), "models.yolo.Model"]
SCRATCH = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))


def test_one(data: bytes) -> None:
    """Read one input.

    Raises:
        AssertionError: it did something, or its message is no line.
    """
    file = SCRATCH / "input.pt"
    write(file, data[:1], data[1:])
    message = ""
    with deeds() as done:
        try:
            unpickle.read(file)
        except CheckpointError as error:
            message = str(error)
    assert not done, done
    assert "\n" not in message and len(message) < 500, message


def write(file: Path, kind: bytes, content: bytes) -> None:
    """The file that an input stands for."""
    if kind == WRAPPED:
        archive(content, PARTS)(file)
    elif kind == OLD:
        legacy(content)(file)
    else:
        file.write_bytes(content)


def seeds(folder: Path) -> None:
    """The hostile files, small ones, and the head of a good one."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, make in enumerate(CORPUS.values()):
        file = SCRATCH / "seed.pt"
        make(file)
        content = file.read_bytes()
        if len(content) < LARGEST:
            (folder / f"whole-{number}").write_bytes(WHOLE + content)
        pickled = content[content.find(HEAD) + len(HEAD) :][:LARGEST]
        (folder / f"pickle-{number}").write_bytes((WRAPPED, OLD)[number % 2] + pickled)
    good = WEIGHTS.read_bytes()
    (folder / "good").write_bytes(WRAPPED + good[good.find(HEAD) + len(HEAD) :][:LARGEST])


def dictionary(file: Path) -> Path:
    """The names that a pickle may use, as the steps that look them up."""
    names = [word.rpartition(".")[::2] for word in WORDS]
    lines = [f'"c{module}\\x0a{name}\\x0a"' for module, name in names]
    file.write_text("\n".join(lines))
    return file


def main(seconds: str, folder: str) -> None:
    seeds(Path(folder))
    limits = ["-timeout=10", "-rss_limit_mb=2048", f"-max_len={LARGEST}", "-print_final_stats=1"]
    limits.append(f"-dict={dictionary(SCRATCH / 'names.txt')}")
    atheris.Setup([sys.argv[0], f"-max_total_time={seconds}", *limits, folder], test_one)
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
