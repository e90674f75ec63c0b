"""What a module offers under a name is there."""

import importlib
import pkgutil

import pytest

from ppdl import crypto

USES = {
    "keys.keystore": ("default_private_dir", ()),
    "arithmetic.linear": ("dct_filters", (2, 3, 7)),
}
ALL = [info.name.removeprefix("ppdl.crypto.") for info in pkgutil.walk_packages(crypto.__path__, "ppdl.crypto.") if not info.ispkg]


@pytest.mark.parametrize("module", ALL)
def test_everything_can_be_imported_from_a_module(module):
    names: dict = {}
    exec(f"from ppdl.crypto.{module} import *", names)
    assert ("__all__" in vars(importlib.import_module(f"ppdl.crypto.{module}"))) == (module in USES)
    if module in USES:
        name, arguments = USES[module]
        assert names[name](*arguments) is not None
