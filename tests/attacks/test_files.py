"""Files that break a rule are refused, each with its own message; and no flipped bit goes unnoticed."""

import io
import os
import pickle

import numpy as np
import pytest

from ppdl.crypto.artifact.reading import open_artifact
from ppdl.crypto.keys.keypair import generate_keypair
from ppdl.errors import ArtifactError
from tests.attacks.build import KINDS, change_array, in_file, read, replace_file, swap_files


def use(folder):
    """Open an artifact and read all of it, as training does: without asking for verification."""
    artifact = open_artifact(folder)
    if artifact.header.kind == "codebook":
        return artifact.codebook, artifact.indices[:]
    return artifact.ciphertexts[:]


def verify(folder):
    open_artifact(folder).verify()


def remove(index):
    return lambda folder: (folder / read(folder)["shards"][index]["file"]).unlink()


def make_folder(folder):
    remove(1)(folder)
    (folder / read(folder)["shards"][1]["file"]).mkdir()


def make_pipe(folder):
    remove(1)(folder)
    os.mkfifo(folder / read(folder)["shards"][1]["file"])


def flip(data, bit):
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


DAMAGE = {
    "missing": (remove(1), r"\w+-0000[01]\.npy: the header lists this shard, but the file is missing"),
    "truncated": (in_file(1, lambda data: data[:-1]), r"truncated: the header says \d+ bytes, found \d+"),
    "emptied": (in_file(1, lambda data: b""), r"truncated: the header says \d+ bytes, found 0"),
    "too long": (in_file(1, lambda data: data + b"\0"), r"too long: the header says \d+ bytes, found \d+"),
    "bit in the array": (in_file(1, lambda data: flip(data, 8 * 200)), r"damaged: SHA-256 must be [0-9a-f]{64}, found [0-9a-f]{64}"),
    "bit in the padding": (in_file(1, lambda data: flip(data, 8 * 120)), "damaged: SHA-256 must be"),
    "swapped": (swap_files(1, 2), r"holds the bytes of \w+-0000[0-9]\.npy: shards were swapped or renamed"),
    "a folder": (make_folder, "a shard must be a regular file, found another kind"),
    "a pipe": (make_pipe, "a shard must be a regular file, found another kind"),
}


@pytest.mark.parametrize("read_all", [use, verify])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_refused(victim, kind, name, read_all):
    folder = victim(kind)
    attack, message = DAMAGE[name]
    attack(folder)
    with pytest.raises(ArtifactError, match=message) as error:
        read_all(folder)
    assert str(folder) in str(error.value)
    assert "restore the artifact (dvc pull) or encrypt again" in str(error.value)


@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_bit_anywhere_is_refused(victim, kind):
    """Flip 1,002 bits over the three kinds: two thirds anywhere in the folder, one third in the header."""
    folder = victim(kind)
    files = sorted(folder.iterdir())
    ends = np.cumsum([8 * file.stat().st_size for file in files])
    header = [file.name for file in files].index("header.json")
    begin = ends[header] - 8 * files[header].stat().st_size
    rng = np.random.default_rng(len(kind))
    for place in (*rng.integers(0, ends[-1], 223), *rng.integers(begin, ends[header], 111)):
        file = files[np.searchsorted(ends, place, "right")]
        good = file.read_bytes()
        file.write_bytes(flip(good, int(place - ends[files.index(file)]) % (8 * len(good))))
        with pytest.raises(ArtifactError, match=file.name):
            verify(folder)
        file.write_bytes(good)
    verify(folder)


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_damaged_shard_is_lost(victim, kind):
    """A shard is verified when it is read, not before: the images of the others stay readable."""
    folder = victim(kind)
    expected = use(folder)
    in_file(-1, lambda data: flip(data, 8 * 200))(folder)
    artifact = open_artifact(folder)
    rows = artifact.indices if kind == "codebook" else artifact.ciphertexts
    whole = expected[1] if kind == "codebook" else expected
    assert np.array_equal(rows[:2], whole[:2])
    with pytest.raises(ArtifactError, match=r"-00003\.npy: damaged"):
        rows[-1]


@pytest.mark.parametrize("name", [".DS_Store", "ciphertexts-00009.npy", "plan.json", "sub"])
def test_an_unexpected_file_is_refused(victim, name):
    folder = victim("dense")
    (folder / name).mkdir() if name == "sub" else (folder / name).write_text("x")
    with pytest.raises(ArtifactError, match=f"{name}: not listed in the header; remove it"):
        verify(folder)


def test_links_into_a_cache_are_fine(victim, tmp_path):
    """DVC may link files from its cache."""
    folder = victim("dense")
    file = folder / "ciphertexts-00000.npy"
    file.rename(tmp_path / "cache")
    file.symlink_to(tmp_path / "cache")
    verify(folder)


def pickled(folder):
    """Write an object array: numpy would unpickle it, which runs any code."""
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.array([Bomb()], dtype=object), allow_pickle=True)
    size = read(folder)["shards"][1]["bytes"]
    replace_file(folder, 1, buffer.getvalue().ljust(size, b"\0"))


class Bomb:
    """Show that it was unpickled."""

    def __reduce__(self):
        return (exec, ("raise SystemExit('unpickled')",))


def fortran(data):
    return data.replace(b"'fortran_order': False,", b"'fortran_order': True, ")


def other_type(data):
    return data.replace(b"'|u1'", b"'|i1'")


def other_shape(data):
    text = data[:128].decode("latin1")
    rows, columns = text[text.index("(") + 1 : text.index(")")].split(",")[:2]
    return text.replace(f"({rows},{columns}", f"({columns.strip()}, {rows}").encode("latin1")[:128].ljust(128, b"\n") + data[128:]


@pytest.mark.parametrize(
    "attack",
    [
        pickled,
        in_file(1, fortran, digest=True),
        in_file(1, other_type, digest=True),
        in_file(1, other_shape, digest=True),
        in_file(1, lambda data: data[:100] + b"x" + data[101:], digest=True),
        in_file(1, lambda data: b"\x93NUMPY\x02\x00" + data[8:], digest=True),
    ],
)
def test_the_beginning_of_a_shard_is_compared_not_parsed(victim, attack):
    """Even when every digest fits."""
    folder = victim("dense")
    attack(folder)
    with pytest.raises(ArtifactError, match=r"must begin as the .npy file of a uint8 array \(\d+, 64\) in C order"):
        use(folder)


def test_the_bomb_is_live():
    with pytest.raises(SystemExit, match="unpickled"):
        pickle.loads(pickle.dumps(Bomb()))  # noqa: S301 - the point of the test


@pytest.mark.parametrize("change", [lambda rows: rows[::-1], lambda rows: np.concatenate([rows[:1], rows[:-1]])])
def test_a_codebook_must_ascend(victim, change):
    folder = victim("codebook")
    change_array(0, change)(folder)
    for read_all in (use, verify):
        with pytest.raises(ArtifactError, match=r"codebook\.npy: rows must ascend, so that their order tells nothing"):
            read_all(folder)


@pytest.mark.parametrize(
    "row", [lambda public: b"\xff" * 64, lambda public: bytes(64), lambda public: public.n_squared.to_bytes(64, "big")]
)
@pytest.mark.parametrize("kind", ["codebook", "dense"])
def test_impossible_ciphertexts_are_refused_with_the_public_key(victim, public, kind, row):
    folder = victim(kind)

    def change(rows):
        value = np.frombuffer(row(public), np.uint8)
        rows[0 if not value.any() else -1] = value
        return rows

    change_array(0, change)(folder)
    verify(folder)  # without the key nobody can tell
    with pytest.raises(ArtifactError, match=r"ciphertext \d+ must be in \(0, n\^2\), found a number outside"):
        open_artifact(folder).verify(public)


def test_another_public_key_is_refused(victim, public):
    other = generate_keypair(256, allow_insecure_key=True).public
    message = f"encrypted under the 256-bit key {public.fingerprint}, got the 256-bit key {other.fingerprint}; use the key pair"
    with pytest.raises(ArtifactError, match=message):
        open_artifact(victim("dense")).verify(other)


def test_what_an_artifact_does_not_hold(victim):
    artifact = open_artifact(victim("dense"))
    with pytest.raises(ArtifactError, match="an artifact of kind 'dense' has no codebook"):
        _ = artifact.codebook
    with pytest.raises(ArtifactError, match="an artifact of kind 'dense' has no indices"):
        _ = artifact.indices
    with pytest.raises(ArtifactError, match=r"ciphertexts of their own .*, found groups of 3; encrypt again with images_per_group=1"):
        _ = artifact.ciphertexts_by_image


def test_a_codebook_has_no_packed_ciphertexts(victim):
    artifact = open_artifact(victim("codebook"))
    for name in ("ciphertexts", "ciphertexts_by_image"):
        with pytest.raises(ArtifactError, match="an artifact of kind 'codebook' has no packed ciphertexts"):
            getattr(artifact, name)


def test_verify_looks_again(victim):
    """What was read before may have changed since."""
    folder = victim("dense")
    artifact = open_artifact(folder)
    artifact.verify()
    in_file(0, lambda data: flip(data, 8 * 200))(folder)
    with pytest.raises(ArtifactError, match="damaged"):
        artifact.verify()
