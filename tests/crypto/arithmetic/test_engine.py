"""One switch between the engines, and what a processor without the vector kernel does."""

import os
import subprocess
import sys

import pytest

from ppdl.crypto.arithmetic import engine
from ppdl.crypto.arithmetic.vector import compiled
from ppdl.errors import ConfigError


@pytest.fixture
def lacking(monkeypatch):
    monkeypatch.setattr(compiled, "missing_features", lambda: ("avx512ifma",))


def test_a_processor_without_the_instructions_computes_with_gmpy2(lacking, monkeypatch):
    for value in ("", "auto"):
        monkeypatch.setenv(engine.VARIABLE, value)
        assert engine.engine() == "gmpy2"
    monkeypatch.setenv(engine.VARIABLE, "vector")
    with pytest.raises(ConfigError, match="PPDL_ENGINE=vector needs a processor with avx512ifma, which this one lacks"):
        engine.engine()


def test_other_engines_are_refused(monkeypatch):
    monkeypatch.setenv(engine.VARIABLE, "gpu")
    with pytest.raises(ConfigError, match="PPDL_ENGINE must be auto, vector or gmpy2, got 'gpu'"):
        engine.engine()


def test_gmpy2_is_used_when_asked_for_and_loads_no_compiler():
    code = """
import sys
from ppdl.crypto.keys.keypair import generate_keypair
from ppdl.crypto.arithmetic.obfuscators import build_obfuscators
from ppdl.crypto.arithmetic.paillier import decrypt_batch, encrypt_batch

key = generate_keypair(256, allow_insecure_key=True)
assert decrypt_batch(key, encrypt_batch(key.public, [7], build_obfuscators(key.public, table_bytes=2**20))) == [7]
print("llvmlite" in sys.modules)
"""
    environment = os.environ | {engine.VARIABLE: "gmpy2"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.skipif(bool(compiled.missing_features()), reason="this processor has no AVX-512 IFMA")
def test_machine_code_is_kept_and_a_damaged_file_is_made_anew(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    compiled._initialise()
    machine = compiled._target_machine()
    code = compiled._machine_code(10, machine)
    (file,) = (tmp_path / "ppdl" / "kernels").iterdir()
    assert file.stat().st_mode & 0o777 == 0o600 and file.parent.stat().st_mode & 0o777 == 0o700
    whole = file.read_bytes()
    monkeypatch.setattr(compiled, "_compile", lambda *_: pytest.fail("compiled again, though it is kept"))
    assert compiled._machine_code(10, machine) == code
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for damaged in (b"", whole[:100], whole[:-1], whole[:-1] + bytes([whole[-1] ^ 1])):
        file.write_bytes(damaged)
        assert compiled._machine_code(10, machine) == code and file.read_bytes() == whole


@pytest.mark.parametrize(("mode", "uid"), [(0o620, 0), (0o602, 0), (0o600, 1)])
def test_machine_code_that_others_could_write_is_not_run(tmp_path, monkeypatch, mode, uid):
    """As in a cache folder that several users share, or under sudo with the user's home."""
    file = tmp_path / "kernel.o"
    compiled._write(file, b"code")
    assert compiled._read(file) == b"code"
    file.chmod(mode)
    monkeypatch.setattr(compiled.os, "geteuid", lambda: file.stat().st_uid + uid)
    assert compiled._read(file) is None


@pytest.mark.skipif(bool(compiled.missing_features()), reason="this processor has no AVX-512 IFMA")
def test_a_cache_that_cannot_be_written_costs_time_alone(tmp_path, monkeypatch):
    (tmp_path / "ppdl").write_text("a file in the place of the folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    compiled._initialise()
    assert compiled._machine_code(10, compiled._target_machine())


@pytest.mark.skipif(bool(compiled.missing_features()), reason="this processor has no AVX-512 IFMA")
def test_a_process_with_much_memory_loads_machine_code():
    """Address space reserved between one load and the next leaves small holes far apart: no object's sections may end up in several."""
    code = """
import mmap
from ppdl.crypto.arithmetic.vector import compiled

held = []
for i in range(100):
    held.append(mmap.mmap(-1, 5 << 30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=0))
    held.append(mmap.mmap(-1, 4096 * (3 + i % 9), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
    compiled.kernel.cache_clear()
    compiled.kernel(10)
print("loaded")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "loaded"
