"""`ppdl.crypto` as a library: what it hands out, without the rest, and the example in its documentation."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ppdl import crypto

PAGE = Path(__file__).parents[2] / "docs/howto/paillier.md"
CODE = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("name", crypto.__all__)
def test_every_name_is_there_and_says_what_it_is(name):
    found = getattr(crypto, name)
    assert found.__name__ == name and found.__doc__


def test_a_name_that_is_not_there_is_no_name():
    with pytest.raises(AttributeError, match="encrypt_everything"):
        _ = crypto.encrypt_everything


def test_the_example_runs_and_uses_what_is_handed_out(tmp_path):
    used = {a.name for node in ast.walk(ast.parse("".join(CODE))) if isinstance(node, ast.ImportFrom) for a in node.names} - {"Path"}
    assert len(CODE) == 2 and used <= {*crypto.__all__}
    done = subprocess.run([sys.executable, "-c", "".join(CODE)], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["encrypted"]


def test_the_library_does_without_the_pipeline():
    pipeline = {"dvc", "hydra", "keras", "mlflow", "omegaconf", "pandas", "tensorflow"}
    code = f"import sys\nfrom ppdl.crypto import *\nprint({pipeline} & {{*sys.modules}})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
