"""When an audit of a folder says that patients are found."""

import numpy as np
import pytest

from ppdl.audit.attacks.linkage import Linkage
from ppdl.audit.folder.examine import audit_folder, meaning
from ppdl.audit.folder.pictures import target_of_pictures
from tests.audit import schemes


@pytest.mark.parametrize(("count", "clear", "level"), [(40, True, "leaky"), (40, False, "unbroken"), (4, True, "unbroken")])
def test_patients_that_are_found_count_where_chance_would_not_find_as_many(count, clear, level):
    images = schemes.films(1, count, 32)
    pictures = images if clear else schemes.noise(images, np.random.default_rng(0))
    result = audit_folder({"linkage": Linkage()}, target_of_pictures("set", pictures, schemes.films(9, 60, 32)), images, seed=0)
    row = result.results["linkage"]
    assert result.level == level
    assert (row["top1"] >= row["top1_least"]) == (level == "leaky")
    assert meaning(row).startswith("no success") == (level == "unbroken")
