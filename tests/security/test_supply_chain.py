"""The lock: what pyproject.toml asks for, pinned with hashes, the same bytes each time; the audit of dependencies never passes silently."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = Path(__file__).resolve().parents[2]
LOCK = (PROJECT / "requirements.lock").read_text()
PYPROJECT = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
LOCKED_EXTRAS = re.findall(r"--extra (\w+)", (PROJECT / "Makefile").read_text())
PYTHONS = ("3.11", "3.12", "3.13")


def pins() -> list[tuple[Requirement, str]]:
    """Return each pin of the lock, and the text of its hashes."""
    blocks = re.findall(r"^(\S[^\n]*?) ?\\\n((?:    --hash[^\n]*\n?)+)", LOCK, re.MULTILINE)
    return [(Requirement(pin), hashes) for pin, hashes in blocks]


def wanted() -> list[Requirement]:
    lists = [PYPROJECT["dependencies"], *(PYPROJECT["optional-dependencies"][extra] for extra in LOCKED_EXTRAS)]
    return [Requirement(text) for texts in lists for text in texts]


def environment(python: str) -> dict[str, str]:
    linux = {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64", "os_name": "posix"}
    return linux | {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "platform_python_implementation": "CPython",
        "extra": "",
    }


@pytest.mark.parametrize("python", PYTHONS)
def test_the_lock_satisfies_what_the_project_asks_for(python):
    there = {}
    for pin, _ in pins():
        if pin.marker is None or pin.marker.evaluate(environment(python)):
            there.setdefault(canonicalize_name(pin.name), []).append(str(pin.specifier).removeprefix("=="))
    assert len(LOCKED_EXTRAS) > 3 and len(there) > 100
    for requirement in wanted():
        if requirement.marker is None or requirement.marker.evaluate(environment(python)):
            versions = there.get(canonicalize_name(requirement.name), [])
            assert len(versions) == 1, f"{requirement} has the pins {versions} on Python {python}: run `make lock`"
            assert requirement.specifier.contains(versions[0], prereleases=True), (
                f"{requirement} is pinned to {versions[0]}: run `make lock`"
            )


def test_every_pin_is_exact_and_hashed():
    every = [line for line in LOCK.splitlines() if line and not line.startswith((" ", "#"))]
    assert len(pins()) == len(every)
    for pin, hashes in pins():
        assert re.fullmatch(r"==[^,*]+", str(pin.specifier)), f"{pin} must be one version"
        assert pin.url is None and re.search(r"--hash=sha256:[0-9a-f]{64}", hashes)
    assert "://" not in LOCK, "a lock must name no package index"


def test_locking_again_gives_the_same_bytes(tmp_path):
    if shutil.which("uv") is None:
        pytest.skip("uv, which `make lock` needs, is not installed")
    for name in ("pyproject.toml", "requirements.lock", "Makefile"):
        shutil.copy(PROJECT / name, tmp_path)
    done = subprocess.run(["make", "lock"], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    if done.returncode and re.search(r"error sending request|[Cc]ould not connect|dns error|[Nn]etwork", done.stderr):
        pytest.skip("no package index answers")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "requirements.lock").read_text() == LOCK, "requirements.lock is not what `make lock` makes of pyproject.toml"


@pytest.fixture(scope="module")
def audit_deps():
    spec = importlib.util.spec_from_file_location("audit_deps", PROJECT / ".ci/audit_deps.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


ASKED = {"name": "a", "version": "1", "vulns": []}
SKIPPED = {"name": "b", "skip_reason": "Dependency not found on PyPI and could not be audited: b (1)"}
KNOWN = {"name": "c", "version": "2", "vulns": [{"id": "CVE-2020-1"}]}


@pytest.mark.parametrize(
    ("found", "required", "code", "text"),
    [
        ([ASKED], True, 0, "no known vulnerabilities in 1 dependencies"),
        ([ASKED, KNOWN], False, 1, "known vulnerabilities in 1 of 2 dependencies:\nc 2: CVE-2020-1"),
        ([SKIPPED, KNOWN], False, 1, "known vulnerabilities in 1 of 1"),
        ([SKIPPED, SKIPPED], False, 0, "NOT AUDITED: the advisory database answered for 0 of 2 dependencies"),
        ([SKIPPED, ASKED], True, 1, "NOT AUDITED: the advisory database answered for 1 of 2"),
        ([], True, 1, "NOT AUDITED"),
    ],
)
def test_an_audit_that_asked_nobody_does_not_pass_silently(audit_deps, found, required, code, text):
    result, said = audit_deps.judge(found, required=required)
    assert result == code and said.startswith(text)


def test_every_exception_for_bandit_has_a_reason():
    lines = [line for folder in ("ppdl", "stages") for path in (PROJECT / folder).rglob("*.py") for line in path.read_text().splitlines()]
    marked = [line for line in lines if "# nosec" in line]
    assert marked
    bare = [line for line in marked if not re.search(r"# nosec B\d{3}( B\d{3})*  # \w+", line)]
    assert not bare, "name the rule and the reason: # nosec B101  # because"
