"""The real Python bindings of TensorRT over stub native libraries, for processes of their own.

The wheels of the bindings are a megabyte; the native libraries that they load cannot be had from a
package index. A few empty functions with the names that the bindings import make them importable:
enums, docstrings and base classes are real, and making a Builder or a Runtime fails as it does
where a driver is too old. `make test` puts the wheels into the virtual environment.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from yoloq.base.own_files import ROOT

VERSIONS = ("10.16.1.11", "11.4.0.106")
WHEELS = Path(sys.prefix) / "tensorrt-bindings"
LIBRARIES = ("nvinfer", "nvinfer_plugin", "nvonnxparser")
SYMBOLS = (  # what `nm -D --undefined-only tensorrt.so` lists of them
    "createInferBuilder_INTERNAL",
    "createInferRefitter_INTERNAL",
    "createInferRuntime_INTERNAL",
    "createNvOnnxParser_INTERNAL",
    "createNvOnnxParserRefitter_INTERNAL",
    "getBuilderPluginRegistry",
    "getPluginRegistry",
    "getNvOnnxParserVersion",
    "initLibNvInferPlugins",
)


def environment(version: str, folder: Path) -> dict[str, str]:
    """Environment variables with which `import tensorrt` finds the bindings of a version.

    Skips the test, with the reason, where there are no bindings or no C compiler.
    """
    wheel = WHEELS / version
    if not (wheel / "tensorrt_bindings").is_dir():
        pytest.skip(f"{wheel}: TensorRT's bindings are not there; `make test` installs them")
    compile_stubs(version.split(".")[0], folder)
    package = folder / "tensorrt"
    package.mkdir()
    (package / "__init__.py").write_text(  # as NVIDIA's package of that name does
        "from tensorrt_bindings import *\nfrom tensorrt_bindings import __version__\n"
    )
    paths = (folder, wheel, ROOT, ROOT / "tests" / "support")
    return {
        **os.environ,
        "LD_LIBRARY_PATH": f"{folder}:{os.environ.get('LD_LIBRARY_PATH', '')}",
        "PYTHONPATH": ":".join(map(str, paths)),
        "OMP_NUM_THREADS": "1",
    }


def compile_stubs(major: str, folder: Path) -> None:
    """Write shared libraries that define `SYMBOLS`, with the sonames of a version."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler (cc or gcc): the stubs of TensorRT's libraries need one")
    source = folder / "stubs.c"
    source.write_text("".join(f"void *{name}(void) {{ return 0; }}\n" for name in SYMBOLS))
    for library in LIBRARIES:
        file = folder / f"lib{library}.so.{major}"
        named = f"-Wl,-soname,{file.name}"
        subprocess.run([compiler, "-shared", "-fPIC", named, "-o", file, source], check=True)


def run_pytest(version: str, cases: Path, folder: Path) -> None:
    """Run a file of tests in a process in which `import tensorrt` is a version's bindings."""
    variables = environment(version, folder)
    probe = [sys.executable, "-c", "import tensorrt"]
    done = subprocess.run(probe, env=variables, capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        pytest.skip(f"TensorRT's bindings {version} do not load here: {done.stderr.strip()[-200:]}")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-x", str(cases)]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
