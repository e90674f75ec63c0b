"""Headers that break a rule are refused, each with its own message. Digests fit, unless the digest is what is attacked."""

import json
import re

import pytest

from ppdl.crypto.artifact import header_file
from ppdl.crypto.artifact.fields import quote
from ppdl.crypto.artifact.reading import open_artifact
from ppdl.errors import ArtifactError
from tests.attacks.build import dump, read, set_field, set_text, write


def two_spaces(text):
    return json.dumps(json.loads(text), indent=2) + "\n"


def with_wrong_digest(text):
    return re.sub(r'"num_images": 10\b', '"num_images": 11', text, count=1)


def repeated_field(text):
    return text.replace('"kind":', '"kind": "dense",\n "kind":', 1)


TEXTS = {
    "empty": (b"", "must be JSON, got ''"),
    "text": (b"hello", "must be JSON, got 'hello'"),
    "truncated": (lambda text: text[: len(text) // 2], "must be JSON, got "),
    "not UTF-8": (b'{"format": "\xff"}', "must be UTF-8 text, found byte 0xff"),
    "null bytes": (b"\0" * 100, "must be JSON, got "),
    "deep": (b"[" * 100_000, "must be JSON, got "),
    "huge integer": (b'{"format": ' + b"9" * 5000 + b"}", "must be JSON, got "),
    "NaN": (lambda text: text.replace('"confidential": true', '"confidential": NaN'), "NaN is no JSON number"),
    "repeated field": (repeated_field, "a field occurs twice among"),
    "a list": (b"[1, 2]\n", "must be a JSON object that begins with the field 'format'"),
    "another JSON file": (b'{"images": []}\n', "must be a JSON object that begins with the field 'format'"),
    "format later": (
        lambda text: text.replace('{\n "format": "PPDL/1",', '{\n "x": 1,\n "format": "PPDL/1",'),
        "begins with the field 'form",
    ),
    "later version": (
        lambda text: text.replace("PPDL/1", "PPDL/2"),
        "format must be 'PPDL/1', got 'PPDL/2': read it with the version of ppdl that wrote it",
    ),
    "version of another type": (lambda text: text.replace('"PPDL/1"', "1"), "format must be 'PPDL/1', got 1"),
    "edited": (with_wrong_digest, "header_sha256 does not fit the other fields: the header was damaged or edited"),
    "no digest": (lambda text: dump(without(text, "header_sha256")), "header_sha256 must be 64 lower-case hexadecimal digits, got None"),
    "short digest": (lambda text: re.sub(r"[0-9a-f]{64}(?=\"\n}\n$)", "00", text), "header_sha256 must be 64 .* digits, got '00'"),
    "reformatted": (two_spaces, "must be the canonical serialisation of its fields: the file was reformatted or edited"),
    "no final newline": (lambda text: text[:-1], "must be the canonical serialisation"),
    "trailing space": (lambda text: text + " ", "must be the canonical serialisation"),
    "escaped letter": (lambda text: text.replace('"a test"', '"\\u0061 test"'), "must be the canonical serialisation"),
    "byte order mark": (lambda text: "\ufeff" + text, "must be JSON, got "),
}


def without(text, field):
    content = json.loads(text)
    del content[field]
    return content


@pytest.mark.parametrize("name", TEXTS)
def test_a_bad_text_is_refused(victim, name):
    folder = victim("dense")
    text, message = TEXTS[name]
    before = (folder / "header.json").read_bytes()
    set_text(text)(folder)
    assert (folder / "header.json").read_bytes() != before
    with pytest.raises(ArtifactError, match=message) as error:
        open_artifact(folder)
    assert str(error.value).startswith(f"{folder / 'header.json'}: ")
    assert str(error.value).endswith("restore the artifact (dvc pull) or encrypt again")


def test_fields_in_another_order_are_refused(victim):
    folder = victim("dense")
    header = read(folder)
    write(folder, {"format": header.pop("format"), "reason": header.pop("reason"), **header})
    with pytest.raises(ArtifactError, match="must be the canonical serialisation"):
        open_artifact(folder)


def test_a_huge_header_is_not_read(victim, monkeypatch):
    folder = victim("dense")
    size = (folder / "header.json").stat().st_size
    monkeypatch.setattr(header_file, "MAX_HEADER_BYTES", size - 1)
    with pytest.raises(ArtifactError, match=f"a header has at most {size - 1} bytes, got {size}"):
        open_artifact(folder)
    monkeypatch.setattr(header_file, "MAX_HEADER_BYTES", size)
    open_artifact(folder)


def test_no_header_no_artifact(victim):
    folder = victim("dense")
    (folder / "header.json").unlink()
    with pytest.raises(ArtifactError, match=r"header\.json: not found, so .* holds no finished artifact"):
        open_artifact(folder)


@pytest.mark.parametrize(("make", "found"), [(lambda path: None, "nothing"), (lambda path: path.write_text(""), "a file")])
def test_no_folder_no_artifact(tmp_path, make, found):
    make(tmp_path / "x")
    with pytest.raises(ArtifactError, match=f"an artifact is a folder, found {found}"):
        open_artifact(tmp_path / "x")


FIELDS = [
    # kind, field, value, message
    ("dense", "extra", 1, r"the header has unknown fields \['extra'\]; allowed are \['kind', "),
    ("dense", "reason", ..., r"the header lacks the fields \['reason'\]"),
    ("dense", "kind", "opaque", "kind must be one of codebook, dense, slots, .*, got 'opaque'"),
    ("dense", "kind", ["dense"], "kind must be one of codebook, dense, slots, .*, got"),
    ("dense", "kind", "codebook", "confidential must be false in kind 'codebook', since equal pixels have equal ciphertexts"),
    ("dense", "kind", "slots", "packing must be stride.2 planes .* in 9- to 32-bit slots, in kind 'slots', got"),
    ("slots", "kind", "dense", "packing must be one plane of whole images in 8-bit slots, in kind 'dense', got"),
    ("dense", "confidential", "yes", "confidential must be true or false, got 'yes'"),
    ("dense", "confidential", 1, "confidential must be true or false, got 1"),
    ("codebook", "confidential", True, "confidential must be false in kind 'codebook'"),
    ("dense", "reason", "", "reason must be one line of 1 to 1,000 characters, got ''"),
    ("dense", "reason", "a\nb", r"reason must be one line of 1 to 1,000 characters, got 'a\\nb'"),
    ("dense", "reason", "\x1b[31mred", "reason must be one line"),
    ("dense", "reason", "x" * 1001, "reason must be one line of 1 to 1,000 characters, got 'x+[.]{3}"),
    ("dense", "reason", None, "reason must be one line of 1 to 1,000 characters, got None"),
    ("dense", "protection", "opaque", "protection must be an object, got 'opaque'"),
    ("dense", "protection.name", "Opaque", "protection.name must be a lower-case name of up to 64 characters, got 'Opaque'"),
    ("dense", "protection.name", "../x", "protection.name must be a lower-case name of up to 64 characters, got '../x'"),
    ("dense", "protection.params", [1], r"protection.params must be an object, got \[1\]"),
    ("dense", "protection.extra", 1, r"protection has unknown fields \['extra'\]"),
    ("dense", "key", None, "key must be an object, got None"),
    ("dense", "source", 10, "source must be an object, got 10"),
    ("dense", "packing", [8], r"packing must be an object, got \[8\]"),
    ("dense", "key.fingerprint", str.upper, "key.fingerprint must be 64 lower-case hexadecimal digits, got '"),
    ("dense", "key.fingerprint", "ab", "key.fingerprint must be 64 lower-case hexadecimal digits, got 'ab'"),
    ("dense", "key.fingerprint", lambda old: old + "\n", "key.fingerprint must be 64 lower-case hexadecimal digits, got '"),
    ("dense", "key.key_bits", 256.0, "key.key_bits must be an integer from 64 to 16384, got 256.0"),
    ("dense", "key.key_bits", True, "key.key_bits must be an integer from 64 to 16384, got True"),
    ("dense", "key.key_bits", 8, "key.key_bits must be an integer from 64 to 16384, got 8"),
    ("dense", "key.key_bits", 10**100, "key.key_bits must be an integer from 64 to 16384, got 10+"),
    ("dense", "key.key_bits", 512, "ciphertext_bytes must be 128 at 512 bits, got 64"),
    ("dense", "key.obfuscator", "none", "key.obfuscator must be 'djn' or 'standard', got 'none'"),
    ("dense", "source.num_images", 0, "source.num_images must be an integer from 1 to 1099511627776, got 0"),
    ("dense", "source.num_images", -3, "source.num_images must be an integer from 1 to 1099511627776, got -3"),
    ("dense", "source.num_images", 2**41, "source.num_images must be an integer from 1 to 1099511627776, got 2199023255552"),
    ("dense", "source.num_images", "10", "source.num_images must be an integer from 1 to 1099511627776, got '10'"),
    ("dense", "source.num_images", 11, "shards must hold source.num_images = 11 images, got 10"),
    ("dense", "source.num_images", 1, "num_images must be an integer from 1 to 1, got"),
    ("dense", "source.height", 2**17, "source.height must be an integer from 1 to 65536, got 131072"),
    ("dense", "source.width", 13, "packing must be one plane of whole images"),
    (
        "codebook",
        "source.width",
        13,
        r"shard \(file, shape, first_image, num_images\) must be \('indices-00000.npy', \(3, 8, 13\), 0, 3\), got",
    ),
    ("dense", "packing", None, "packing must be one plane of whole images in 8-bit slots, in kind 'dense', got None"),
    ("codebook", "packing", {"slot_bits": 8}, r"packing lacks the fields \['images_per_group', "),
    ("dense", "packing.slot_bits", 33, "packing.slot_bits must be an integer from 8 to 32, got 33"),
    ("dense", "packing.slot_bits", 9, "packing must be one plane of whole images in 8-bit slots, in kind 'dense', got"),
    ("slots", "packing.slot_bits", 8, "packing must be stride"),
    ("dense", "packing.slots", 32, "packing.slots must be 31 for 8-bit slots at 256 bits, got 32"),
    ("slots", "packing.slots", 21, "packing.slots must be 20 for 12-bit slots at 256 bits, got 21"),
    ("slots", "packing.planes", 3, "packing must be stride"),
    ("slots", "packing.plane_height", 3, "packing must be stride"),
    ("slots", "packing.plane_width", 65536, "packing must be stride"),
    ("dense", "packing.images_per_group", 0, "packing.images_per_group must be an integer from 1 to 1099511627776, got 0"),
    ("dense", "packing.images_per_group", 4, "num_images must be whole groups of 4, got 3"),
    ("dense", "num_ciphertexts", 0, r"num_ciphertexts \(by the shapes of the shards\) must be an integer from (\d+) to \1, got 0"),
    ("dense", "num_ciphertexts", float, "num_ciphertexts .* must be an integer from"),
    ("codebook", "num_ciphertexts", 255, "num_ciphertexts .* must be an integer from 256 to 256, got 255"),
    ("dense", "ciphertext_bytes", 0, ": ciphertext_bytes must be an integer from 1 to 65536, got 0"),
    ("dense", "ciphertext_bytes", 65537, ": ciphertext_bytes must be an integer from 1 to 65536, got 65537"),
    ("dense", "ciphertext_bytes", 63, "ciphertext_bytes must be 64 at 256 bits, got 63"),
    ("dense", "shards", [], "shards must hold source.num_images = 10 images, got 0"),
    ("codebook", "shards", [], "shards must hold source.num_images = 10 images, got 0"),
    ("dense", "shards", {}, "shards must be a list, got {}"),
    ("dense", "shards", lambda old: old[:-1], "shards must hold source.num_images = 10 images, got 9"),
    (
        "codebook",
        "shards",
        lambda old: old[1:],
        r"shard \(file, .* must be \('codebook.npy', \(256, 64\), 0, 0\), got \('indices-00000.npy'",
    ),
    ("codebook", "shards", lambda old: old[:1], "shards must hold source.num_images = 10 images, got 0"),
    ("dense", "shards", lambda old: old[::-1], r"shard \(file, shape, first_image, num_images\) must be \('ciphertexts-00000.npy'"),
    (
        "dense",
        "shards",
        lambda old: [old[0], *old],
        r"shard \(file, .* must be \('ciphertexts-00001.npy', .*, got \('ciphertexts-00000.npy'",
    ),
    ("dense", "shards.0", 7, r"shards\[0\] must be an object, got 7"),
    ("dense", "shards.1.extra", 7, r"shards\[1\] has unknown fields \['extra'\]"),
    ("dense", "shards.1.sha256", ..., r"shards\[1\] lacks the fields \['sha256'\]"),
    (
        "dense",
        "shards.0.file",
        "../../etc/passwd",
        r": shard\.file must be codebook\.npy, indices-NNNNN\.npy or ciphertexts-NNNNN\.npy, got '../../etc/passwd'",
    ),
    ("dense", "shards.0.file", "/etc/passwd", "shard.file must be codebook.npy, .*, got '/etc/passwd'"),
    ("dense", "shards.0.file", "sub/ciphertexts-00000.npy", "shard.file must be codebook.npy"),
    ("dense", "shards.0.file", "ciphertexts-00000.npy\n", "shard.file must be codebook.npy"),
    ("dense", "shards.0.file", "ciphertexts-٠٠٠٠٠.npy", "shard.file must be codebook.npy"),
    ("dense", "shards.0.file", "indices-00000.npy", r"shard \(file, .* must be \('ciphertexts-00000.npy', .*, got \('indices-00000.npy'"),
    ("dense", "shards.0.shape", "12", r"shards\[0\].shape must be a list, got '12'"),
    ("dense", "shards.0.shape", [5], r"shape must have 2 or 3 lengths, got \(5,\)"),
    ("dense", "shards.0.shape.0", 0, "each length of the shape must be an integer from 1 to 1099511627776, got 0"),
    ("dense", "shards.0.shape.0", 1.5, "each length of the shape must be an integer from 1 to 1099511627776, got 1.5"),
    ("dense", "shards.0.shape.0", lambda old: old + 1, r"bytes must be \d+ for the shape \(\d+, 64\), got"),
    ("dense", "shards.0.dtype", "|O", r"dtype must be '\|u1' \(uint8\), got '\|O'"),
    ("dense", "shards.0.bytes", lambda old: old - 1, r"shard ciphertexts-00000.npy: bytes must be \d+ for the shape"),
    ("dense", "shards.0.sha256", "0" * 63, "sha256 must be 64 lower-case hexadecimal digits"),
    (
        "dense",
        "shards.1.first_image",
        4,
        r"must be \('ciphertexts-00001.npy', \(\d+, 64\), 3, 3\), got \('ciphertexts-00001.npy', \(\d+, 64\), 4, 3\)",
    ),
    ("dense", "shards.0.num_images", 0, "shard ciphertexts-00000.npy: num_images must be an integer from 1 to 10, got 0"),
    ("dense", "shards.0.num_images", 2, r"shard \(file, shape, first_image, num_images\) must be"),
    ("codebook", "shards.0.num_images", 1, r"must be \('codebook.npy', \(256, 64\), 0, 0\), got \('codebook.npy', \(256, 64\), 0, 1\)"),
    ("dense", "canary", [], "canary must have 2 ciphertexts at 256 bits, got 0"),
    ("dense", "canary", "ff", "canary must be a list, got 'ff'"),
    ("dense", "canary.0", "zz", "canary must be 128 lower-case hexadecimal digits a ciphertext, got 'zz'"),
    ("dense", "canary.1", None, "canary must be 128 lower-case hexadecimal digits a ciphertext, got None"),
]


@pytest.mark.parametrize(("kind", "field", "value", "message"), FIELDS)
def test_a_bad_field_is_refused(victim, kind, field, value, message):
    folder = victim(kind)
    header = read(folder)
    set_field(field, value)(folder)
    assert read(folder) != header or value is float
    with pytest.raises(ArtifactError, match=message) as error:
        open_artifact(folder)
    assert str(error.value).startswith(f"{folder / 'header.json'}: ")
    assert "\n" not in str(error.value)
    assert "\x1b" not in str(error.value)


def test_the_longest_values_that_are_accepted_and_quoted_whole(victim):
    folder = victim("dense")
    set_field("reason", "x" * 1000)(folder)
    assert open_artifact(folder).header.reason == "x" * 1000
    assert quote("x" * 98) == f"'{'x' * 98}'" and quote("x" * 99) == f"'{'x' * 96}..."


def test_params_that_are_no_json_cannot_be_written():
    from ppdl.crypto.artifact.fields import Protection

    for value in (float("nan"), (1, 2), {1: 2}, object()):
        with pytest.raises(ArtifactError, match=r"protection\.params\.x(\..*)? must be a JSON value with finite numbers, got "):
            Protection("x", {"x": value})
