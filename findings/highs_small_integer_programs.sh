#!/usr/bin/env bash
# scipy.optimize.milp (HiGHS 1.12 in SciPy 1.17.1) ends tiny integer programs that have no solution in status 4, "Solve error", where status 2,
# "infeasible", is right: three or four unknowns, one or two equations with coefficients below 10, every unknown bounded, no objective.
# Who asks "is there an integer vector in this box that these filters map to zero?" must not take "no answer" for either answer.
# Without presolve, and with A x = 0 written as -0.5 <= A x <= 0.5 (A and x are whole), the same programs end in status 2.
# Each program is decided here by trying every point of its box. Exits non-zero when one of this changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check scipy==1.17.1 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import itertools
import sys

import numpy as np
import scipy
from scipy.optimize import Bounds, LinearConstraint, milp

PROGRAMS = [  # matrix, least and greatest value of each unknown
    ([[6, 2, -9]], [1, -2, -2], [8, 2, 1]),
    ([[8, 6, 0, -5]], [1, -1, -8, -3], [2, 6, 3, 1]),
    ([[-3, 3, 7], [-7, -2, 6]], [1, -4, -7], [3, 4, 5]),
    ([[-2, 3, -4, 5], [-4, -2, 9, -6]], [1, -7, -6, -1], [8, 2, 7, 7]),
]
changed = False
for matrix, low, high in PROGRAMS:
    boxes = np.array(list(itertools.product(*(range(a, b + 1) for a, b in zip(low, high)))))
    assert (boxes @ np.array(matrix).T).any(1).all(), "no point of the box solves it"
    count = len(low)
    program = {"c": np.zeros(count), "integrality": np.ones(count), "bounds": Bounds(low, high)}
    found = milp(**program, constraints=LinearConstraint(matrix, 0, 0))
    other = milp(**program, constraints=LinearConstraint(matrix, -0.5, 0.5), options={"presolve": False})
    print(f"scipy {scipy.__version__}, {matrix} x = 0: status expected 2, seen {found.status} ({found.message}); the other way {other.status}")
    changed |= (found.status, other.status) != (4, 2)
sys.exit("a status changed" if changed else 0)
PYTHON
