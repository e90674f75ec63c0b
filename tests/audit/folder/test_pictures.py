"""Reading anybody's images, and telling success without originals."""

import io
import struct
import zipfile

import numpy as np
import pytest
from PIL import Image

from ppdl.audit.examination.judge import compare, judge_structure, octaves, shuffled
from ppdl.audit.folder import pictures
from ppdl.audit.folder.examine import audit_folder, meaning
from ppdl.audit.folder.pictures import classes_of, read_originals, read_pictures, read_prior, target_of_pictures, to_picture
from ppdl.errors import DataError
from tests.audit import schemes


@pytest.fixture(scope="module")
def images():
    return schemes.films(1, 12)


def save(folder, images, suffix=".png"):
    folder.mkdir(parents=True, exist_ok=True)
    for i, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{i:03d}{suffix}")
    return folder


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tiff"])
def test_reads_pictures_as_they_are(tmp_path, images, suffix):
    found = read_pictures(save(tmp_path / "set", images, suffix), max_images=None)
    np.testing.assert_array_equal(found.values, images)
    assert found.names[:2] == ("000", "001")
    assert found.num_found == 12


def test_reads_nested_folders_and_at_most_as_many_as_asked(tmp_path, images):
    save(tmp_path / "set" / "a", images[:6])
    save(tmp_path / "set" / "b", images[6:])
    found = read_pictures(tmp_path / "set", max_images=3)
    assert found.names == ("a/000", "a/005", "b/005")
    assert found.num_found == 12
    np.testing.assert_array_equal(found.values, images[[0, 5, 11]])


def test_folders_are_classes_where_there_are_several(tmp_path, images):
    save(tmp_path / "all/b", images[:2]), save(tmp_path / "all/a", images[:3])
    names = read_pictures(tmp_path / "all", max_images=None).names
    assert [(name[0], label) for name, label in zip(names, classes_of(names), strict=True)] == [("a", 0)] * 3 + [("b", 1)] * 2
    assert classes_of(read_pictures(tmp_path / "all/a", max_images=None).names) is None
    assert classes_of((*names, "5")) is None  # one lies outside of them
    assert classes_of(("x/1", "x/2")) is None


def test_keeps_colour_and_16_bits(tmp_path, images):
    colour = schemes.negative_positive_colour(images, np.random.default_rng(0))
    np.testing.assert_array_equal(read_pictures(save(tmp_path / "colour", colour), max_images=None).values, colour)
    deep = images.astype(np.uint16) * 100 + 7
    np.testing.assert_array_equal(read_pictures(save(tmp_path / "deep", deep), max_images=None).values, deep)
    equal = np.repeat(images[..., None], 3, axis=3)
    np.testing.assert_array_equal(read_pictures(save(tmp_path / "gray", equal), max_images=None).values, images)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.uint64, np.float32])
def test_reads_arrays(tmp_path, images, dtype):
    values = images.astype(dtype)
    np.save(tmp_path / "all.npy", values)
    np.savez_compressed(tmp_path / "all.npz", values)
    for name in ("all.npy", "all.npz"):
        found = read_pictures(tmp_path / name, max_images=None)
        np.testing.assert_array_equal(found.values, values)
        assert found.values.dtype == dtype
    folder = tmp_path / "each"
    folder.mkdir()
    for i, image in enumerate(values):
        np.save(folder / f"{i:03d}.npy", image)
    np.testing.assert_array_equal(read_pictures(folder, max_images=None).values, values)


def test_an_array_may_have_a_last_axis_of_channels(tmp_path, images):
    np.save(tmp_path / "a.npy", images[..., None])
    np.testing.assert_array_equal(read_pictures(tmp_path / "a.npy", max_images=5).values, images[[0, 2, 5, 8, 11]])


def test_wide_values_become_symbols_and_are_scaled_for_the_picture():
    values = np.array([[[10**12, 10**12 + 5], [10**12 + 10, 10**12]]], np.int64)
    target = target_of_pictures("wide", values, None)
    assert target.picture.tolist() == [[[0, 128], [255, 0]]]
    assert target.symbols.num_symbols == 3
    assert target.symbols.array.tolist() == [[[0, 1], [2, 0]]]
    assert to_picture(np.full((1, 2, 2), 7.0)).tolist() == [[[0, 0], [0, 0]]]


def test_too_many_different_values_are_no_symbols():
    values = np.arange(64 * 64, dtype=np.uint16).reshape(1, 64, 64)
    assert target_of_pictures("wide", values, None).symbols is None


def _npy_header(shape, descr="|u1"):
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header


def _refused(tmp_path, images):
    """Yield (name, what is written there, the words of the refusal)."""

    def object_array(folder):
        np.save(folder / "a.npy", np.array([2**3000], object), allow_pickle=True)

    def bomb(folder):
        with zipfile.ZipFile(folder / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.npy", "w", force_zip64=True) as file:
            file.write(_npy_header((3 << 10, 32, 32)))
            file.write(bytes(3 << 20))

    def huge_picture(folder):
        data = io.BytesIO()
        Image.new("L", (8, 8)).save(data, "PNG")
        raw = bytearray(data.getvalue())
        raw[16:24] = struct.pack(">II", 60000, 60000)
        import zlib

        raw[29:33] = struct.pack(">I", zlib.crc32(bytes(raw[12:29])))
        (folder / "a.png").write_bytes(raw)

    def two_arrays(folder):
        np.savez(folder / "a.npz", images=images, labels=np.arange(3))

    def mixed_sizes(folder):
        save(folder, images[:1])
        Image.fromarray(images[0, ::2]).save(folder / "b.png")

    def mixed_kinds(folder):
        save(folder, images[:1])
        Image.fromarray(schemes.negative_positive_colour(images[:1], np.random.default_rng(0))[0]).save(folder / "b.png")

    def truncated(folder):
        save(folder, images[:1])
        file = folder / "000.png"
        file.write_bytes(file.read_bytes()[:500])

    return {
        "empty": (lambda folder: None, "holds no images"),
        "no file content": (lambda folder: (folder / "a.png").touch(), "empty"),
        "not a picture": (lambda folder: (folder / "a.png").write_bytes(b"hello"), "unreadable"),
        "truncated": (truncated, "unreadable"),
        "mixed sizes": (mixed_sizes, "one size"),
        "mixed kinds": (mixed_kinds, "one kind"),
        "pictures and arrays": (lambda folder: (save(folder, images[:1]), np.save(folder / "a.npy", images)), "found both"),
        "pickle": (object_array, "may run code"),
        "bomb": (bomb, "would take"),
        "huge picture": (huge_picture, "bomb"),
        "two arrays": (two_arrays, "one array"),
        "not an array": (lambda folder: (folder / "a.npy").write_bytes(b"\x93NUMPY"), "unreadable"),
        "short array": (lambda folder: (folder / "a.npy").write_bytes(_npy_header((9, 64, 64))), "unreadable"),
        "complex": (lambda folder: np.save(folder / "a.npy", images.astype(complex)), "integers or floats"),
        "one axis": (lambda folder: np.save(folder / "a.npy", np.arange(100)), "must have the shape"),
        "five channels": (lambda folder: np.save(folder / "a.npy", np.zeros((2, 32, 32, 5))), "must have the shape"),
        "no images": (lambda folder: np.save(folder / "a.npy", images[:0]), "must have the shape"),
        "tiny": (lambda folder: np.save(folder / "a.npy", images[:, :8]), "at least 16"),
        "not finite": (lambda folder: np.save(folder / "a.npy", np.full((2, 32, 32), np.nan)), "finite"),
    }


NAMES = list(_refused(None, np.zeros((1, 1, 1), np.uint8)))


@pytest.mark.parametrize("name", NAMES)
def test_refuses(tmp_path, images, name, monkeypatch):
    monkeypatch.setattr(pictures, "MAX_BYTES", 2 << 20)
    write, words = _refused(tmp_path, images)[name]
    folder = tmp_path / "set"
    folder.mkdir()
    write(folder)
    with pytest.raises(DataError, match=words) as refusal:
        read_pictures(folder, max_images=None)
    assert str(folder) in str(refusal.value)


def test_refuses_a_path_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        read_pictures(tmp_path / "nowhere", max_images=None)


def test_originals_match_by_name_or_by_order(tmp_path, images):
    found = read_pictures(save(tmp_path / "set", images), max_images=4)
    save(tmp_path / "plain", schemes.films(1, 20))  # eight more than were encrypted
    np.testing.assert_array_equal(read_originals(tmp_path / "plain", found, max_images=4), images[[0, 3, 7, 11]])
    np.save(tmp_path / "plain.npy", images)
    np.testing.assert_array_equal(read_originals(tmp_path / "plain.npy", found, max_images=4), images[[0, 3, 7, 11]])


@pytest.mark.parametrize(
    ("values", "words"),
    [(lambda i: i[:5], "all 12"), (lambda i: i[:, :32], "the size"), (lambda i: i.astype(np.uint16), "8 bits")],
)
def test_refuses_originals_that_do_not_fit(tmp_path, images, values, words):
    found = read_pictures(save(tmp_path / "set", images), max_images=None)
    np.save(tmp_path / "plain.npy", values(images))
    with pytest.raises(DataError, match=words):
        read_originals(tmp_path / "plain.npy", found, max_images=None)


def test_public_images_of_any_size_are_brought_to_one(tmp_path, images):
    save(tmp_path / "prior", schemes.films(9, 3, 100))
    assert read_prior(tmp_path / "prior", 64, 48).shape == (3, 64, 48)
    np.save(tmp_path / "prior.npy", images)
    with pytest.raises(DataError, match="pictures"):
        read_prior(tmp_path / "prior.npy", 64, 64)


def test_shuffling_keeps_each_histogram_and_the_pairing_of_channels_and_symbols(images):
    colour = np.stack([images, images // 2, 255 - images], axis=3)
    null = shuffled(target_of_pictures("set", colour, None), np.random.default_rng(0))
    np.testing.assert_array_equal(np.sort(null.picture[..., 0].reshape(12, -1)), np.sort(images.reshape(12, -1)))
    np.testing.assert_array_equal(null.picture[..., 2], 255 - null.picture[..., 0])
    np.testing.assert_array_equal(null.symbols.array, null.picture[..., 1])
    assert (null.picture[..., 0] != images).any()


def test_structure_is_at_all_octaves_of_images_and_at_none_of_noise(images):
    assert octaves(images).shape == (12, 4)
    assert octaves(images).mean(0).min() > 0.3
    assert abs(octaves(schemes.noise(images, np.random.default_rng(0))).mean(0)).max() < 0.15
    assert octaves(np.zeros((1, 64, 64), np.uint8)).tolist() == [[0.0] * 4]


def test_smoothed_noise_is_no_success(images):
    from scipy.ndimage import uniform_filter

    def smooth(seed):
        return np.stack([uniform_filter(x, 5) for x in schemes.noise(images, np.random.default_rng(seed))])

    found = compare(smooth(0), smooth(1), partial=False, num_tests=1)
    assert found.structure > 0.3
    assert not found.found
    assert judge_structure({"smooth": found})[0] == "unbroken"


def test_a_drawing_of_public_images_is_no_success(images):
    drawn = np.repeat(schemes.films(9, 20).mean(0).astype(np.uint8)[None], 12, axis=0)
    assert not compare(drawn, schemes.noise(images, np.random.default_rng(0)), partial=False, num_tests=1).found


def test_scrambled_blocks_show_through_and_images_have_it_all(images):
    noise = schemes.noise(images, np.random.default_rng(0))
    blocks = compare(schemes.block_scrambling(images, np.random.default_rng(0), one_key=False), noise, partial=False, num_tests=1)
    assert blocks.found and not blocks.rebuilt
    assert judge_structure({"as_is": blocks})[0] == "leaky"
    whole = compare(images, noise, partial=False, num_tests=1)
    assert whole.found and whole.rebuilt
    level, sentence = judge_structure({"as_is": blocks, "jigsaw": whole})
    assert level == "broken"
    assert "jigsaw" in sentence


def test_meaning_follows_figures():
    assert meaning({"does_not_apply": "no picture"}) == "does not apply: no picture"
    assert meaning({"ssim": 0.9, "ssim_null": 0.1}) == "images rebuilt"
    assert meaning({"ssim": 0.9, "ssim_null": 0.85, "found": False}) == "no success"
    assert "in part" in meaning({"ssim": 0.1, "found": True, "rebuilt": False})


def test_an_attack_that_does_as_well_on_shuffled_pixels_has_no_success(images):
    """A blurred picture is like any smooth image, which SSIM rewards; only the comparison with the null tells."""
    from ppdl.audit.attacks.as_is import AsIs

    class Cheat(AsIs):
        def score(self, guess, truth):
            finding = super().score(guess, truth)
            return type(finding)(finding.metrics | {"ssim": 0.9, "psnr": 30.0}, finding.rebuilt)

    noise = schemes.noise(images, np.random.default_rng(0))
    result = audit_folder({"cheat": Cheat(10, 3)}, target_of_pictures("set", noise, None), images, seed=0)
    assert result.level == "unbroken"
    assert result.results["cheat"]["ssim_null"] == 0.9


def test_bounds_are_on_what_is_read(monkeypatch, tmp_path, images):
    monkeypatch.setattr(pictures, "MAX_BYTES", 5 * 64 * 64)
    save(tmp_path / "set", images)
    assert len(read_pictures(tmp_path / "set", max_images=5).values) == 5
    with pytest.raises(DataError, match="would take"):
        read_pictures(tmp_path / "set", max_images=6)


@pytest.mark.parametrize("with_originals", [False, True])
def test_a_count_decides_where_nothing_is_rebuilt(images, with_originals):
    from ppdl.audit.attacks.own_histogram import OwnHistogram

    def audit(protected):
        target = target_of_pictures("set", protected, None)
        return audit_folder({"own_histogram": OwnHistogram()}, target, images if with_originals else None, seed=0)

    moved = audit(schemes.SCHEMES["permuted_fresh"].protect(images, np.random.default_rng(0)))
    assert moved.level == "leaky" and "histogram of its own" in moved.sentence
    assert "histogram of its own" in meaning(moved.results["own_histogram"])
    noise = audit(schemes.noise(images, np.random.default_rng(0)))
    assert noise.level == "unbroken" and "histograms that differ by" in noise.sentence
