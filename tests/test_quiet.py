"""TensorFlow is imported without the lines that no setting of it leaves out."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

NOISE = (
    "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR",
    "I0000 00:00:1795998173.318028    5097 port.cc:153] oneDNN custom operations are on. You may see slightly different numerical results.",
    "I0000 00:00:1795998173.319011    5097 cudart_stub.cc:31] Could not find cuda drivers on your machine, GPU will not be used.",
)  # of TensorFlow 2.21.0
KEPT = "E0000 00:00:1795998173.319011    5097 other.cc:1] something that somebody has to know"
IMPORT = "import sys; from ppdl.quiet import QuietImport; sys.meta_path.insert(0, QuietImport()); import tensorflow"


def run(code: str, *folders: Path, **options: Any) -> subprocess.CompletedProcess:
    env = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (*folders, Path.cwd())))}
    env.pop("TF_CPP_MIN_LOG_LEVEL", None)
    return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=300, **options)


def test_other_lines_are_kept_and_so_is_the_error(tmp_path):
    text = "".join(f"{line}\n" for line in (*NOISE, KEPT))
    (tmp_path / "tensorflow.py").write_text(f"import os\nos.write(2, {text.encode()!r})\nraise ImportError('a part of it is missing')\n")
    done = run(IMPORT, tmp_path)
    assert done.returncode == 1 and done.stderr.endswith("ImportError: a part of it is missing\n")
    assert done.stderr.startswith(f"{KEPT}\nTraceback")


def test_a_process_without_a_standard_error_imports_it_too(tmp_path):
    (tmp_path / "tensorflow.py").write_text("print('imported')\n")
    done = run(IMPORT, tmp_path, preexec_fn=lambda: os.close(2))
    assert (done.returncode, done.stdout) == (0, "imported\n")


@pytest.mark.skipif(Path("/proc/driver/nvidia").exists(), reason="for machines without a GPU")
def test_importing_tensorflow_prints_nothing():
    done = run("import ppdl, tensorflow")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
