"""Paillier ciphertexts as people send them: text, JSON that python-paillier's users write, arrays; and what is refused."""

import json

import numpy as np
import phe
import pytest
from click.testing import CliRunner
from phe.command_line import cli as pheutil

from ppdl.audit.attacks.key_size import KeySize
from ppdl.audit.attacks.obfuscators import Obfuscators
from ppdl.audit.folder.examine import audit_folder, meaning
from ppdl.audit.folder.integers import holds_integers, read_integers, target_of_integers
from ppdl.crypto.keys.keyfile import load_public
from ppdl.crypto.keys.keypair import PublicKey
from ppdl.errors import DataError, KeyStoreError
from tests.audit import schemes
from tests.audit.schemes import standard

KEY = PublicKey(standard.N)


@pytest.fixture(scope="module")
def images():
    return schemes.films(1, 3, 16)


@pytest.fixture(scope="module")
def ciphertexts(images):
    return standard.paillier_integers(images, np.random.default_rng(0), obfuscators="fresh")


def as_integers(values):
    return [int.from_bytes(row.tobytes(), "big") for row in values.reshape(-1, values.shape[-1])]


def rows(image, separator=" ", form=str):
    return "\n".join(separator.join(map(form, row)) for row in image.tolist()) + "\n"


def folder_of(write):
    def written(folder, ciphertexts):
        folder.mkdir()
        for i, image in enumerate(ciphertexts):
            write(folder / f"{i:03d}", image)
        return folder

    return written


def file_of(name, write):
    def written(folder, ciphertexts):
        write(folder.parent / name, ciphertexts)
        return folder.parent / name

    return written


def dump(path, content):
    path.write_text(json.dumps(content))


def with_exponent(ciphertext):
    return [str(ciphertext), 0]


FORMS = {
    "rows of pixels": folder_of(lambda path, image: path.with_suffix(".txt").write_text(rows(image))),
    "rows, with commas and a mark of UTF-8": folder_of(
        lambda path, image: path.with_suffix(".csv").write_text("\ufeff" + rows(image, ", "), encoding="utf-8")
    ),
    "one a line": folder_of(lambda path, image: path.with_suffix(".txt").write_text("\n".join(map(str, image.ravel())))),
    "a printed list": folder_of(lambda path, image: path.with_suffix(".txt").write_text(str(image.ravel().tolist()))),
    "hexadecimal": folder_of(lambda path, image: path.with_suffix(".txt").write_text(rows(image, form=hex))),
    "hexadecimal without 0x": folder_of(lambda path, image: path.with_suffix(".txt").write_text(rows(image, form="{:X}".format))),
    "images between blank lines": file_of("a.txt", lambda path, images: path.write_text("\n".join(map(rows, images)))),
    "array of text": file_of("a.npy", lambda path, images: np.save(path, images.astype(str))),
    "array of bytes": file_of("a.npz", lambda path, images: np.savez(path, images.astype("S"))),
    "nested JSON": file_of("a.json", lambda path, images: dump(path, images.tolist())),
    "phe's values and key": file_of(
        "a.json",
        lambda path, images: dump(
            path, {"public_key": {"n": standard.N}, "values": np.vectorize(lambda c: [str(c), 0], "O")(images).tolist()}
        ),
    ),
    "pheutil, one a line": folder_of(
        lambda path, image: path.with_suffix(".jsonl").write_text("\n".join(f'{{"v": "{c}", "e": -32}}' for c in image.ravel()) + "\n")
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_reads_what_people_write(tmp_path, ciphertexts, form):
    path = FORMS[form](tmp_path / "set", ciphertexts)
    found = read_integers(path, KEY, None, max_images=10)
    assert found.values.shape == (3, 16, 16, KEY.ciphertext_bytes) and found.num_found == 3
    assert as_integers(found.values) == ciphertexts.ravel().tolist()
    assert (found.names == ("000", "001", "002")) == path.is_dir()


def test_reads_as_many_as_asked_evenly_and_images_of_a_size_that_is_given(tmp_path, ciphertexts):
    (tmp_path / "a.csv").write_text("\n".join(",".join(map(str, image.ravel())) for image in ciphertexts))
    with pytest.raises(DataError, match="--size 256 3 or --size 16 16"):
        read_integers(tmp_path / "a.csv", KEY, None, max_images=10)
    found = read_integers(tmp_path / "a.csv", KEY, (16, 16), max_images=2)
    assert as_integers(found.values) == ciphertexts[[0, 2]].ravel().tolist() and found.num_found == 3
    assert read_integers(tmp_path / "a.csv", KEY, (24, 32), max_images=2).values.shape[:3] == (1, 32, 24)


def test_golden_what_phe_and_pheutil_write_is_read_under_their_key(tmp_path, images):
    """Provenance: python-paillier itself, run here."""
    public, private = phe.generate_paillier_keypair(n_length=256)
    for name, content in {
        "private": {"kty": "DAJ", "pub": {"kty": "DAJ", "alg": "PAI-GN1", "n": phe.util.int_to_base64(public.n)}}
    }.items():
        dump(tmp_path / f"{name}.json", content)
    runner = CliRunner()
    assert runner.invoke(pheutil, ["extract", str(tmp_path / "private.json"), str(tmp_path / "key.json")]).exit_code == 0
    key = load_public(tmp_path / "key.json", None)
    pixels = images[0].ravel().tolist()
    printed = [runner.invoke(pheutil, ["encrypt", str(tmp_path / "key.json"), str(m)]).stdout.splitlines()[-1] for m in pixels[:2]]
    encrypted = [public.encrypt(float(m)).decrease_exponent_to(-32) for m in pixels[2:]]
    (tmp_path / "c.jsonl").write_text("\n".join(printed + [json.dumps({"v": str(c.ciphertext()), "e": c.exponent}) for c in encrypted]))
    found = as_integers(read_integers(tmp_path / "c.jsonl", key, None, max_images=1).values)
    assert [private.decrypt(phe.EncryptedNumber(public, c, -32)) for c in found] == pixels


def test_the_key_may_stand_in_the_file(tmp_path, ciphertexts):
    path = FORMS["phe's values and key"](tmp_path / "set", ciphertexts)
    assert holds_integers(path) and read_integers(path, None, None, max_images=1).public_key == KEY
    with pytest.raises(DataError, match="another key"):
        read_integers(path, PublicKey(standard.N + 2), None, max_images=1)


def changed(value, place=37):
    def change(ciphertexts):
        flat = ciphertexts[0].ravel().tolist()
        flat[place] = value
        return np.array(flat, object).reshape(16, 16)

    return change


REFUSED = {
    "0": ("a.txt", lambda c: rows(changed(0)(c)), "a.txt, line 3, number 6 .* found 0: gray values"),
    "n squared": (
        "a.txt",
        lambda c: rows(changed(standard.N**2)(c)),
        "line 3, number 6 must be above 0 and below n.2.*another key",
    ),
    "a factor": ("a.txt", lambda c: rows(changed(standard.P)(c)), "line 3, number 6 must have no factor in common with n"),
    "negative": ("a.txt", lambda c: rows(changed(-5)(c)), "line 3, number 6 must be a whole number .* found '-5'"),
    "a word": ("a.txt", lambda c: rows(changed("...")(c)), r"line 3, number 6 must be a whole number .* found '\.\.\.'"),
    "too long": ("a.txt", lambda c: rows(changed("9" * 4_301)(c)), "line 3, number 6 must be a whole number"),
    "ragged": ("a.txt", lambda c: rows(c[0]) + "7\n", "numbers a line throughout, found 1 to 16"),
    "images of two heights": ("a.txt", lambda c: rows(c[0]) + "\n" + rows(c[0][1:]), "lines between blank ones throughout, found 15 to 16"),
    "no square": ("a.txt", lambda c: "\n".join(map(str, c.ravel()[:300])), "square image .* found 300 numbers: give --size"),
    "nothing": ("a.txt", lambda c: "\n", "at least 16 x 16"),
    "tiny": ("a.txt", lambda c: rows(c[0][:, :8]), "at least 16 x 16 px, found 8 x 16"),
    "no JSON": ("a.json", lambda c: "[[1, 2", "must be JSON"),
    "cut JSON lines": ("a.jsonl", lambda c: '{"v": "1", "e": 0}\n{"v": ', "what follows number 1 is not"),
    "ragged JSON": ("a.json", lambda c: json.dumps([c[0].tolist(), c[1][:5].tolist()]), "one length at depth 1, found 5 to 16"),
    "a float": ("a.json", lambda c: json.dumps(changed(1.5)(c).tolist()), "number 38 must be a whole number.* found '1.5'"),
    "null": ("a.json", lambda c: json.dumps(changed(None)(c).tolist()), "number 38 must be"),
    "no exponent": ("a.json", lambda c: json.dumps([{"v": "5"}] * 256), "number 1 must be"),
    "exponents that differ": (
        "a.json",
        lambda c: json.dumps([[str(v), -(i == 9)] for i, v in enumerate(c[0].ravel())]),
        "number 10: exponents must be equal, found -1, and 0 in .*a.json, number 1.*how large a number is",
    ),
    "colour": ("a.json", lambda c: json.dumps(np.stack([c, c, c], -1).tolist()), "channels of a colour image apart"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses_with_file_and_position(tmp_path, ciphertexts, name):
    file, content, words = REFUSED[name]
    (tmp_path / file).write_text(content(ciphertexts))
    with pytest.raises(DataError, match=words) as refusal:
        read_integers(tmp_path / file, KEY, None, max_images=1)
    assert file in str(refusal.value)


def test_refuses_other_kinds_of_files(tmp_path, ciphertexts):
    np.save(tmp_path / "a.npy", ciphertexts, allow_pickle=True)
    with pytest.raises(DataError, match=r"may run code, and are refused unread.*np.save\(path, array.astype\(str\)\)"):
        read_integers(tmp_path / "a.npy", KEY, None, max_images=1)
    np.save(tmp_path / "a.npy", np.ones((2, 16, 16)))
    with pytest.raises(DataError, match="found float64"):
        read_integers(tmp_path / "a.npy", KEY, None, max_images=1)
    with pytest.raises(DataError, match="no public key: give --public-key"):
        read_integers(FORMS["one a line"](tmp_path / "set", ciphertexts), None, None, max_images=1)
    (tmp_path / "set" / "b.txt").write_text(rows(np.tile(ciphertexts[0], (1, 2))))
    with pytest.raises(DataError, match=r"one size: .*000.txt has 16 x 16 px, .*b.txt has 32 x 16"):
        read_integers(tmp_path / "set", KEY, None, max_images=1)
    (tmp_path / "empty").mkdir()
    (tmp_path / "c.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(DataError, match="UTF-8"):
        read_integers(tmp_path / "c.txt", KEY, None, max_images=1)
    with pytest.raises(DataError, match="holds no Paillier ciphertexts"):
        read_integers(tmp_path / "empty", KEY, None, max_images=1)


def test_a_key_that_is_prime_is_refused(tmp_path):
    dump(tmp_path / "a.json", {"public_key": {"n": 2**127 - 1}, "values": [["5", 0]] * 256})
    with pytest.raises(KeyStoreError, match="product of two"):
        read_integers(tmp_path / "a.json", None, None, max_images=1)


def test_a_folder_of_pictures_with_a_text_beside_them_is_one_of_pictures(tmp_path):
    (tmp_path / "README.txt").write_text("about")
    assert holds_integers(tmp_path) and holds_integers(tmp_path / "README.txt")
    np.save(tmp_path / "a.npy", np.ones(3))
    assert not holds_integers(tmp_path) and not holds_integers(tmp_path / "gone")


LARGE = PublicKey((2**521 - 1) * (2**607 - 1))  # of 1128 bits: nobody factors such a number who is not told how


def integers(tmp_path, images, obfuscators, key=LARGE):
    """Write and read images under r = 1, under one r, or the i-th pixel under r^i."""
    factor, mask, values = (1 if obfuscators == "one" else pow(2**61 - 1, key.n, key.n_squared)), 1, []
    for i, m in enumerate(images.ravel()):
        mask = mask * factor % key.n_squared if i == 0 or obfuscators == "fresh" else mask
        values.append((1 + int(m) * key.n) * mask % key.n_squared)
    np.save(tmp_path / "c.npy", np.array(values, object).reshape(images.shape).astype("S"))
    return target_of_integers("set", read_integers(tmp_path / "c.npy", key, None, max_images=20), schemes.films(9, 30))


@pytest.mark.parametrize(("obfuscators", "level"), [("one", "broken"), ("shared", "broken"), ("fresh", "unbroken")])
@pytest.mark.parametrize("with_originals", [True, False], ids=["with originals", "without"])
def test_verdict(tmp_path, obfuscators, level, with_originals):
    films = schemes.films(1, 8, 32)
    target = integers(tmp_path, films, obfuscators)
    assert (target.symbols is None) == (obfuscators == "fresh")
    attacks = {"obfuscators": Obfuscators(None, 8, 2), "key_size": KeySize()}
    result = audit_folder(attacks, target, films if with_originals else None, seed=0)
    assert result.level == level
    found = result.results["obfuscators"]
    if level == "broken":
        assert found["structure"] > found["structure_null"] + 0.3 and found["rebuilt"]
        assert ("gives plaintexts exactly" in found["leak"]) == (obfuscators == "one")
    else:
        assert "two equal obfuscators among 8,192 ciphertexts" in result.sentence and "n of up to 829 bits by key_size" in result.sentence


def test_a_modulus_that_can_be_factored_is_a_leak(tmp_path, images):
    result = audit_folder({"key_size": KeySize()}, integers(tmp_path, images, "fresh", KEY), None, seed=0)
    assert result.level == "leaky" and "n has 128 bits" in result.sentence
    assert meaning(result.results["key_size"]).startswith("n has 128 bits")
