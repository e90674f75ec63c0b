"""The lock: what pyproject.toml asks for, pinned with hashes, the same bytes each time; the audit of dependencies never passes silently."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import tomllib
from email.message import Message
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = Path(__file__).resolve().parents[2]
LOCKS = {name: (PROJECT / name).read_text() for name in ("requirements.lock", "requirements-test.lock", "requirements-hospitals.lock")}
PYPROJECT = tomllib.loads((PROJECT / "pyproject.toml").read_text())
PYTHONS = ("3.11", "3.12", "3.13")


def pins(lock: str) -> list[tuple[Requirement, str]]:
    """Return each pin of a lock, and the text of its hashes."""
    blocks = re.findall(r"^(\S[^\n]*?) ?\\\n((?:    --hash[^\n]*\n?)+)", LOCKS[lock], re.MULTILINE)
    return [(Requirement(pin), hashes) for pin, hashes in blocks]


def wanted(lock: str) -> list[Requirement]:
    """Return what pyproject.toml asks for, with the extras and groups that the Makefile puts into a lock."""
    shared, _, more = (PROJECT / "Makefile").read_text().partition("\nLOCK := ")[2].partition("\nlock:\n")
    own = next(line for line in more.splitlines() if line.endswith(lock))
    options = own if "$(PIN)" in own else shared + own
    extras, groups = re.findall(r"--extra (\w+)", options), re.findall(r"--group (\w+)", options)
    assert extras and groups
    project = PYPROJECT["project"]
    lists = [project["dependencies"], *(project["optional-dependencies"][extra] for extra in extras)]
    return [Requirement(text) for texts in [*lists, *(PYPROJECT["dependency-groups"][group] for group in groups)] for text in texts]


def pinned_on(lock: str, python: str) -> dict[str, list[str]]:
    """Return the versions that a lock has for a Python."""
    there: dict[str, list[str]] = {}
    for pin, _ in pins(lock):
        if pin.marker is None or pin.marker.evaluate(environment(python)):
            there.setdefault(canonicalize_name(pin.name), []).append(str(pin.specifier).removeprefix("=="))
    return there


def environment(python: str) -> dict[str, str]:
    linux = {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64", "os_name": "posix"}
    return linux | {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "platform_python_implementation": "CPython",
        "extra": "",
    }


@pytest.mark.parametrize("lock", LOCKS)
@pytest.mark.parametrize("python", PYTHONS)
def test_the_lock_satisfies_what_the_project_asks_for(python, lock):
    there = pinned_on(lock, python)
    assert len(there) > 90
    for requirement in wanted(lock):
        if requirement.marker is None or requirement.marker.evaluate(environment(python)):
            versions = there.get(canonicalize_name(requirement.name), [])
            assert len(versions) == 1, f"{requirement} has the pins {versions} on Python {python}: run `make lock`"
            assert requirement.specifier.contains(versions[0], prereleases=True), (
                f"{requirement} is pinned to {versions[0]}: run `make lock`"
            )


@pytest.mark.parametrize("python", PYTHONS)
def test_tests_run_on_the_versions_of_the_pipeline(python):
    pipeline, tests, hospitals = (pinned_on(lock, python) for lock in LOCKS)
    assert pipeline.items() <= tests.items()
    same = ("gmpy2", "keras", "numpy", "tensorflow")  # what makes features and ciphertexts
    assert [pipeline[name] for name in same] == [hospitals[name] for name in same]
    assert not {"ray", "playwright", "moto", "psycopg2-binary", "mkdocs", "pytest", "boto3"} & pipeline.keys()


@pytest.mark.parametrize("lock", LOCKS)
def test_arithmetic_is_by_one_version_of_numpy_on_each_python(lock):
    assert len({tuple(pinned_on(lock, python)["numpy"]) for python in PYTHONS}) == 1


@pytest.mark.parametrize("lock", LOCKS)
def test_every_pin_is_exact_and_hashed(lock):
    every = [line for line in LOCKS[lock].splitlines() if line and not line.startswith((" ", "#"))]
    assert len(pins(lock)) == len(every)
    for pin, hashes in pins(lock):
        assert re.fullmatch(r"==[^,*]+", str(pin.specifier)), f"{pin} must be one version"
        assert pin.url is None and re.search(r"--hash=sha256:[0-9a-f]{64}", hashes)
    assert "://" not in LOCKS[lock], "a lock must name no package index"


def make(target, folder):
    """Make a target in a folder with what `make lock` reads; skip where uv or the package index is missing."""
    if shutil.which("uv") is None:
        pytest.skip("uv, which `make lock` needs, is not installed")
    for name in ("pyproject.toml", "Makefile", *LOCKS):
        shutil.copy(PROJECT / name, folder)
    done = subprocess.run(["make", target], cwd=folder, capture_output=True, text=True, timeout=300)
    if done.returncode and re.search(r"error sending request|[Cc]ould not connect|dns error|[Nn]etwork", done.stderr):
        pytest.skip("no package index answers")
    assert done.returncode == 0, done.stderr


def test_locking_again_gives_the_same_bytes(tmp_path):
    make("lock", tmp_path)
    for name, text in LOCKS.items():
        assert (tmp_path / name).read_text() == text, f"{name} is not what `make lock` makes of pyproject.toml"


def test_there_are_versions_at_the_lower_bounds(tmp_path):
    make("lowest", tmp_path)
    lowest = (tmp_path / "build/lowest.txt").read_text()
    for requirement in map(Requirement, PYPROJECT["project"]["dependencies"]):
        (version,) = re.findall(rf"^{re.escape(requirement.name)}==(\S+)", lowest, re.MULTILINE)
        assert requirement.specifier.contains(version)


def from_ci(name):
    spec = importlib.util.spec_from_file_location(name, PROJECT / f".ci/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def audit_deps():
    return from_ci("audit_deps")


def test_the_page_of_licences_has_every_package_of_the_pipeline_and_names_those_under_the_gpl():
    licences = from_ci("licences")
    page = licences.PAGE.read_text()
    rows = dict(re.findall(r"^\| `(\S+)` \|.*\| (.*) \|$", page, re.MULTILINE))
    assert rows.keys() == {*licences.pinned(LOCKS["requirements.lock"])}, "run `python .ci/licences.py --write`"
    prose = page.partition("\n## ")[0]
    gpl = {name for name, text in rows.items() if re.search(r"(?<!L)GPL", text) and " OR " not in text}
    assert gpl and all(f"`{name}`" in prose for name in gpl)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"License-Expression": "MIT", "License": "other"}, "MIT"),
        ({"Classifier": "License :: OSI Approved :: BSD License", "License": "long\ntext"}, "BSD License"),
        ({"License": "Apache 2.0\nand its text"}, "Apache 2.0"),
        ({}, "says nothing"),
    ],
)
def test_a_licence_is_what_the_package_says(fields, said):
    message = Message()
    for key, value in fields.items():
        message[key] = value
    assert from_ci("licences").licence(message) == said


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
