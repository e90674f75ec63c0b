"""The published schemes that the audit is tried on: encryption can be undone by its key, and each is what its rule says."""

import numpy as np
import pytest

from tests.audit import schemes
from tests.audit.schemes import standard
from tests.audit.schemes.table import BROKEN, LEAKY, SCHEMES, UNBROKEN


@pytest.fixture(scope="module")
def images():
    return schemes.collimated(1, 4, 32)


def key():
    return np.random.default_rng(7)


def test_there_are_at_least_thirty_and_each_has_a_verdict():
    assert len(SCHEMES) >= 30
    order = [UNBROKEN, LEAKY, BROKEN]
    for name, scheme in SCHEMES.items():
        assert order.index(scheme.alone) <= order.index(scheme.known), name  # who knows more breaks no less
        assert scheme.reason


@pytest.mark.parametrize("name", SCHEMES)
def test_protects_images_in_their_shape(images, name):
    before = images.copy()
    protected = SCHEMES[name].protect(images, key())
    assert protected.shape[:3] == images.shape
    assert protected.dtype.kind in "uif"
    np.testing.assert_array_equal(images, before)
    np.testing.assert_array_equal(protected, SCHEMES[name].protect(images, key()))  # the key is what rng draws
    if name not in {"paillier_one", "paillier_scaled", "downscaled_2", "downscaled_8"}:  # which have no key
        assert (protected != SCHEMES[name].protect(images, np.random.default_rng(8))).any()


@pytest.mark.parametrize("name", [name for name, scheme in SCHEMES.items() if scheme.decrypts])
def test_the_key_decrypts_and_another_does_not(images, name):
    protected = SCHEMES[name].protect(images, key())
    assert (protected != images).mean() > 0.3
    np.testing.assert_array_equal(SCHEMES[name].protect(protected, key(), decrypt=True), images)
    assert (SCHEMES[name].protect(protected, np.random.default_rng(8), decrypt=True) != images).any()


@pytest.mark.parametrize(("obfuscators", "distinct"), [("one", 0), ("shared", 0), ("fresh", 1)])
def test_paillier_decrypts_under_any_obfuscator(images, obfuscators, distinct):
    ciphertexts = standard.paillier_integers(images[:1], key(), obfuscators=obfuscators)
    np.testing.assert_array_equal(standard.paillier_decrypted(ciphertexts), images[:1])
    expected = images[:1].size if distinct else len(np.unique(images[:1]))
    assert len(set(ciphertexts.ravel())) == expected
