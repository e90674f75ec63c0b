"""Look up every pinned dependency in the advisory database that pip-audit asks, and say how many were looked up.

pip-audit itself ends with "No known vulnerabilities found" when it could ask about none, as behind a mirror of the package index that
serves no advisories. So: exit 1 for a known vulnerability; without an answer exit 0 with a line that says so, or 1 with --required.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys


def audit(lock: str) -> list[dict]:
    """Return what pip-audit says of each dependency of a lock file."""
    command = [
        sys.executable,
        "-m",
        "pip_audit",
        "-r",
        lock,
        "--disable-pip",
        "--require-hashes",
        "--progress-spinner",
        "off",
        "-f",
        "json",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    try:
        return json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError, TypeError):
        print(done.stderr.strip()[-2000:], file=sys.stderr)
        return []


def judge(dependencies: list[dict], *, required: bool) -> tuple[int, str]:
    """Return the exit code and what to print."""
    asked = [row for row in dependencies if "skip_reason" not in row]
    bad = [row for row in asked if row.get("vulns")]
    if bad:
        lines = [f"{row['name']} {row['version']}: {', '.join(v['id'] for v in row['vulns'])}" for row in bad]
        return 1, "\n".join([f"known vulnerabilities in {len(bad)} of {len(asked)} dependencies:", *lines])
    if len(asked) < len(dependencies) or not dependencies:
        answered = f"the advisory database answered for {len(asked)} of {len(dependencies)} dependencies"
        return int(required), f"NOT AUDITED: {answered}; run `make audit-deps` where it does"
    return 0, f"no known vulnerabilities in {len(asked)} dependencies"


def main() -> int:
    """Audit requirements.lock."""
    parser = argparse.ArgumentParser(prog="python .ci/audit_deps.py")
    parser.add_argument("--required", action="store_true", help="fail when the database does not answer")
    code, text = judge(audit("requirements.lock"), required=parser.parse_args().required)
    print(text)
    return code


if __name__ == "__main__":
    sys.exit(main())
