"""Work that several processes share; what they find comes in the order of the whole."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from two_processes import SUPPORT, torchrun

from yoloq.__main__ import main
from yoloq.base.ranks import Share, by_all, in_turn, launched


@pytest.mark.parametrize("world", [1, 2, 3, 7])
@pytest.mark.parametrize("batches", [0, 1, 2, 6, 7])
def test_shares_come_together_in_order(batches: int, world: int) -> None:
    shares = [Share(rank, world).of(range(batches)) for rank in range(world)]
    assert in_turn(shares) == list(range(batches))


def test_alone_work_is_done_here_with_what_cannot_be_pickled() -> None:
    done: list[int] = []

    def work(share: Share, function: object) -> Iterator[object]:
        share.done(3)
        yield function

    def given() -> None: ...

    assert list(by_all(work, given, done=done.append)) == [[given]]
    assert done == [3] and launched() == Share()


def test_two_processes(tmp_path: Path) -> None:
    found = tmp_path / "found.json"
    ended = torchrun(str(SUPPORT / "ranks_worker.py"), str(found))
    read = json.loads(found.read_text())
    assert read == {
        "steps": [[0, 1, 4, 9, 16], [1, 2, 5, 10, 17]],
        "done": [6, 6],  # the other is taken to be as far
        "heard": [["first", "second"], ["first", "second"]],
        "error": "b.png: cannot be read",
    }
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize(
    ("rank", "said"),
    [
        pytest.param(
            "0",
            "error: yoloq engine: runs in one process; start it without torchrun\n",
            id="the first",
        ),
        pytest.param("1", "", id="another"),
    ],
)
def test_a_stage_of_one_process_is_refused(
    rank: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", rank)
    assert main("engine", []) == 2
    assert capsys.readouterr().err == said
