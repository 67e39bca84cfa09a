"""TensorRT's real Python bindings of both versions over stub libraries, each in its own process.

The cases are the files `contract_trt_*.py`; what they can and cannot show is in `trt_fakes.py`.
"""

from pathlib import Path

import pytest
import trt_bindings
from trt_bindings import VERSIONS, environment, run_pytest

CASES = sorted(Path(__file__).parent.glob("contract_trt_*.py"))


@pytest.mark.parametrize("cases", CASES, ids=lambda file: file.stem.removeprefix("contract_trt_"))
@pytest.mark.parametrize("version", VERSIONS)
def test_contract(version: str, cases: Path, tmp_path: Path) -> None:
    run_pytest(version, cases, tmp_path)


def test_skipped_without_a_compiler_or_bindings(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(trt_bindings, "WHEELS", tmp_path)
    with pytest.raises(pytest.skip.Exception, match=r"TensorRT's bindings are not there; `make t"):
        environment(VERSIONS[0], tmp_path)
    (tmp_path / VERSIONS[0] / "tensorrt_bindings").mkdir(parents=True)
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(pytest.skip.Exception, match="no C compiler"):
        environment(VERSIONS[0], tmp_path)
