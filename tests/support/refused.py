"""How a test says that a checkpoint is refused."""

from pathlib import Path

import pytest

from yoloq.base.errors import CheckpointError
from yoloq.models.load import load_model


def assert_refused(file: Path, text: str) -> None:
    """The error is one line that names the file and holds `text`."""
    with pytest.raises(CheckpointError) as caught:
        load_model(file)
    message = str(caught.value)
    assert message.startswith(f"{file}: ")
    assert text in message
    assert "\n" not in message
