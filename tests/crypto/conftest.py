"""Both engines where arithmetic is tested."""

import pytest

from ppdl.crypto.engine import GMPY2, VARIABLE, VECTOR
from ppdl.crypto.vector.compiled import missing_features

# modules whose every test runs with each engine
BOTH = ("test_paillier", "test_obfuscators", "test_interop_phe", "test_linear", "test_inner")


def engines():
    skip = pytest.mark.skipif(bool(missing_features()), reason=f"this processor has no {', '.join(missing_features())}")
    return [GMPY2, pytest.param(VECTOR, marks=skip)]


def pytest_generate_tests(metafunc):
    if metafunc.module.__name__.rsplit(".", 1)[-1] in BOTH:
        metafunc.fixturenames.insert(0, "engine_name")
        metafunc.parametrize("engine_name", engines(), indirect=True, scope="module")


@pytest.fixture(scope="module")
def engine_name(request):
    """Compute with one engine: for a module, since hypothesis draws many examples within one test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, request.param)
        yield request.param
