"""Both engines where arithmetic is tested."""

import pytest

from ppdl.crypto.arithmetic.engine import GMPY2, VARIABLE, VECTOR, engine
from ppdl.crypto.arithmetic.vector.compiled import missing_features

# modules whose every test runs with each engine
BOTH = ("test_paillier", "test_obfuscators", "test_interop_phe", "test_linear", "test_inner")


def engines():
    skip = pytest.mark.skipif(bool(missing_features()), reason=f"this processor has no {', '.join(missing_features())}")
    return [GMPY2, pytest.param(VECTOR, marks=skip)]


def pytest_generate_tests(metafunc):
    if metafunc.module.__name__.rsplit(".", 1)[-1] in BOTH:
        metafunc.parametrize("engine_name", engines(), indirect=True, scope="module")


@pytest.fixture(scope="module", autouse=True)
def engine_name(request):
    """Compute with one engine, where a module is run with each: for a module, since hypothesis draws many examples within one test."""
    name = getattr(request, "param", None)
    with pytest.MonkeyPatch.context() as patch:
        if name is not None:
            patch.setenv(VARIABLE, name)
            assert engine() == name
        yield name
