"""A process that holds a private key: no core dump, memory closed to other processes, nothing in its command line or environment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ppdl.crypto.keys.keypair import generate_keypair
from ppdl.crypto.keys.keystore import save_private
from tests.secrets_search import find_in_bytes

PROJECT = Path(__file__).resolve().parents[2]
HOLDS_A_KEY = """
import ctypes, resource, sys
from pathlib import Path
resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)) if sys.argv[2] == "root" else None
from ppdl.crypto.keys.keypair import generate_keypair
from ppdl.crypto.keys.keystore import load_private, save_private
path = Path(sys.argv[1])
key = load_private(path) if path.is_file() else save_private(path, generate_keypair(256, allow_insecure_key=True))
print(resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl(3, 0, 0, 0, 0) if sys.platform == "linux" else 0, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def key():
    return generate_keypair(256, allow_insecure_key=True)


@pytest.mark.parametrize("how", ["load", "save"])
def test_a_process_with_a_private_key_dumps_no_core(key, tmp_path, how):
    path = save_private(tmp_path / "keys", key) if how == "load" else tmp_path / "new"
    done = subprocess.run(
        [sys.executable, "-c", HOLDS_A_KEY, path, "user"], input="", capture_output=True, text=True, cwd=PROJECT, check=True
    )
    assert done.stdout.strip() == "(0, 0) 0"


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_the_key_is_in_no_command_line_and_no_environment(key, tmp_path):
    path = save_private(tmp_path / "keys", key)
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS_A_KEY, path, "user"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=PROJECT
    )
    try:
        assert process.stdout.readline().strip() == b"(0, 0) 0"
        for name in ("cmdline", "environ"):
            data = Path(f"/proc/{process.pid}/{name}").read_bytes()
            assert len(data) > 50
            assert not find_in_bytes(key, data, name)
    finally:
        process.communicate(b"")


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="becomes another user, which needs root, and reads Linux's /proc")
def test_no_process_of_the_same_user_reads_the_memory(key, tmp_path):
    """Both run as `nobody`: what one user's programs may do to each other, where the kernel does not forbid it anyway."""
    tmp_path.chmod(0o755)
    reader = (
        "import os, sys\nfor name in ('mem', 'environ'):\n"
        "    try:\n        open(f'/proc/{sys.argv[1]}/{name}', 'rb').read(1); print(name, 'read')\n"
        "    except PermissionError:\n        print(name, 'closed')\n    except OSError as e:\n        print(name, 'opened', e.errno)\n"
    )
    holder = (
        "import os, sys\nfrom ppdl.crypto.keys.memory import forbid_core_dumps\nos.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "sys.argv[1] == 'open' and __import__('ctypes').CDLL(None).prctl(4, 1, 0, 0, 0)\n"  # what a program of this user starts as
        "sys.argv[1] == 'closed' and forbid_core_dumps()\nprint('ready', flush=True)\nsys.stdin.read()\n"
    )
    seen = {}
    for state in ("open", "closed"):
        process = subprocess.Popen([sys.executable, "-c", holder, state], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=PROJECT)
        assert process.stdout.readline() == b"ready\n"
        command = [sys.executable, "-c", f"import os; os.setgroups([]); os.setgid(65534); os.setuid(65534)\n{reader}", str(process.pid)]
        seen[state] = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n")[:2]
        process.communicate(b"")
    assert all("closed" not in line for line in seen["open"]) or "mem closed" in seen["open"], seen  # ptrace_scope may close it to all
    assert seen["closed"] == ["mem closed", "environ closed"]
