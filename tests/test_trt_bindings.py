"""TensorRT's real Python bindings of both versions over stub libraries, each in its own process.

The cases are the files `contract_trt_*.py`; what they can and cannot show is in `trt_fakes.py`.
"""

from pathlib import Path

import pytest
from trt_bindings import VERSIONS, run_pytest

CASES = sorted(Path(__file__).parent.glob("contract_trt_*.py"))


@pytest.mark.parametrize("cases", CASES, ids=lambda file: file.stem.removeprefix("contract_trt_"))
@pytest.mark.parametrize("version", VERSIONS)
def test_contract(version: str, cases: Path, tmp_path: Path) -> None:
    run_pytest(version, cases, tmp_path)
