"""The report as text: what stands on the page, and what is refused."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from ppdl.errors import DataError
from ppdl.evaluation.report.content import PictureRow, Rebuilding, ReportContent, read_content, read_pictures
from ppdl.evaluation.report.formatting import data_uri
from ppdl.evaluation.report.html import write_html
from ppdl.evaluation.report.sections import _summary
from tests.evaluation.report_content import BRANCHES, CONFIG, chest, full_content, least_content

MAX_BYTES = 3_000_000
VOID = {"meta", "link", "img", "br", "path", "circle"}
MEASURES = {"psnr": lambda a, b: 30.0, "ssim": lambda a, b: float(np.mean(a == b))}


class Page(HTMLParser):
    """Read a page, and complain about tags that are not closed in order and about images without alt text."""

    def __init__(self, text: str):
        super().__init__()
        self.stack: list[str] = []
        self.headings: list[tuple[str, str]] = []
        self.texts: list[str] = []
        self.sources: list[str] = []
        self.ids: list[str] = []
        self.feed(text)
        self.close()
        assert self.stack == []

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if tag == "img":
            assert given.get("alt"), attrs
        self.sources += [given[key] for key in ("src", "href") if key in given]
        self.ids += [given["id"]] if "id" in given else []
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        assert tag in VOID, tag

    def handle_endtag(self, tag):
        assert self.stack and self.stack.pop() == tag, f"</{tag}> closes another tag"

    def handle_data(self, data):
        if self.stack and self.stack[-1] != "style":
            self.texts.append(data)
        if self.stack and re.fullmatch("h[1-6]", self.stack[-1]):
            self.headings.append((self.stack[-1], data.strip()))

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def page_of(content: ReportContent, folder: Path) -> Page:
    write_html(folder / "report.html", content)
    return Page((folder / "report.html").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Page:
    return page_of(full_content(), tmp_path_factory.mktemp("full"))


@pytest.fixture(scope="module")
def least(tmp_path_factory: pytest.TempPathFactory) -> Page:
    return page_of(least_content(), tmp_path_factory.mktemp("least"))


@pytest.mark.parametrize("content", [full_content, least_content])
def test_is_well_formed_self_contained_and_small(content, tmp_path: Path):
    page = page_of(content(), tmp_path)
    assert all(source.startswith(("data:", "#")) for source in page.sources)
    assert len(page.ids) == len(set(page.ids))
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<script" not in text and "@import" not in text and "url(" not in text
    assert len(text.encode()) < MAX_BYTES


def test_sections_come_in_order(full: Page):
    page = full
    order = ["verdicts", "pictures", "accuracy", "external", "lungs", "attacks", "frontier", "cost", "data", "cipher", "clear", "reproduce"]
    assert [name for name in page.ids if name in order] == order
    assert page.headings[0][0] == "h1" and page.headings[0][1].startswith("Can a network learn")
    contents = "Verdicts Pictures Accuracy Another hospital Lungs Attacks Privacy and utility Cost Data In the clear Reproduce"
    assert contents in " ".join(page.text.split())


def test_synthetic_images_are_called_so_before_any_figure(full: Page, least: Page):
    text = full.text
    assert text.index("These images are synthetic") < text.index("A network learned") < text.index("88.1")
    assert "synthetic" not in least.text


def test_a_page_with_images_of_patients_says_that_it_holds_them(full: Page, tmp_path: Path):
    warning = "This page shows images of the data set itself."
    assert warning in page_of(full_content(synthetic=False), tmp_path).text
    assert warning in page_of(full_content(synthetic=False, pictures={}), tmp_path).text  # the Grad-CAM figure
    assert warning not in page_of(full_content(synthetic=False, pictures={}, figures={}), tmp_path).text
    assert warning not in full.text


def test_the_summary_follows_from_the_figures(full: Page, tmp_path: Path):
    text = full.text
    for sentence in ("learned from deterministic and homomorphic.", "nothing from opaque:", "rebuilt the images of deterministic."):
        assert sentence in text
    leaking = json.loads(json.dumps(full_content().metrics)) | {}
    leaking["opaque"] |= {"control": "beats chance", "permutation_p": 1e-5}
    text = page_of(full_content(metrics=leaking), tmp_path).text
    assert "learned from deterministic, opaque and homomorphic." in text and "opaque BEATS chance" in text


def test_images_without_a_patient_are_told_on_top(full: Page, tmp_path: Path):
    text = page_of(full_content(data={**full_content().data, "num_without_patient": 1000}), tmp_path).text
    assert text.index("1,000 of 1,000 images name no patient.") < text.index("learned from deterministic")
    assert "name no patient" not in full.text


def test_that_nothing_was_learned_is_said_where_the_images_could_have_shown_it(tmp_path: Path):
    wide = {"accuracy": 0.5, "accuracy_low": 0.09, "accuracy_high": 0.91, "num_groups": 8}
    metrics = {name: found if name == "baselines" else {**found, **wide} for name, found in full_content().metrics.items()}
    text = page_of(full_content(metrics=metrics), tmp_path).text
    assert "Whether a network learned from deterministic and homomorphic cannot be told from so few patients." in text
    assert text.index("Only 8 patients or groups were tested.") < text.index("Whether a network learned")
    metrics["homomorphic"] = {**metrics["homomorphic"], "accuracy": 0.2, "accuracy_low": 0.1, "accuracy_high": 0.4}
    metrics["plain"] = full_content().metrics["plain"]
    text = page_of(full_content(metrics=metrics), tmp_path).text
    assert "learned nothing from opaque and homomorphic:" in text or "learned nothing from homomorphic and opaque:" in text


def test_a_picture_that_the_card_does_not_count_is_named_on_it(tmp_path: Path):
    audit = json.loads(json.dumps(full_content().audit))
    audit["opaque"]["attacks"]["single_film"] = {"ssim": 0.77, "knowledge": "two totals", "surface": "pool"}
    text = page_of(full_content(audit=audit), tmp_path).text
    assert "not counted: single film, SSIM 0.77, from two totals" in text


def test_a_head_is_said_to_be_trained_as_it_was(tmp_path: Path):
    content = full_content()
    heads = {"deterministic": {"fit": {}}, "opaque": {"pooling": {}}}
    text = page_of(replace(content, config={**content.config, "heads": heads}), tmp_path).text
    assert "deterministic were classified on ciphertexts, by a head that was trained on plain features." in text
    assert "opaque were classified on ciphertexts, by a head that was trained on sums under encryption: the key holder saw one" in text


def test_no_accuracy_stands_without_what_attackers_get(least: Page):
    text = least.text
    assert "No attack was run. Nothing on this page says what the protections hide." in text
    assert "deterministic-bytes 74.1 % [67.1, 81.1] 0.737 0.885 −10.4 [−16.0, −4.9] inferior no image rebuilt" in text
    assert "Not drawn, since no attacker's SSIM is known: deterministic, deterministic-bytes, opaque and homomorphic." in text


def test_what_does_not_apply_says_why(full: Page):
    assert "does not apply: nothing was revealed" in full.text


def test_the_lungs_and_the_shortcut_are_on_the_page(full: Page, least: Page):
    text = full.text
    for said in (
        "With the lungs blanked out, plain is right on 63.0 % [57.0, 69.0], above chance (25.4 %): something outside the lungs",
        "With the lungs blanked out, homomorphic is right on 29.0 % [23.0, 35.0], not above chance (25.4 %): no sign of a shortcut",
        "plain 84.6 % [78.6, 90.6] 71.0 % [65.0, 77.0] 63.0 % [57.0, 69.0] 25.4 % 31.0 % [30.0, 32.0] 27.0 %",
        "201 test images with a lung mask",
        "over 198 test images",
        "The maps have only 2 cells a side at this input size",
        "no picture that lungs could be cut from: deterministic-bytes, opaque.",
    ):
        assert said in text, said
    assert "Does the network look at the lungs?" not in least.text


def test_another_hospital_stands_with_drop_calibration_and_controls(full: Page, least: Page):
    section = full.text.partition("At another hospital")[2].partition("Does the network look at the lungs?")[0]
    for words in ("other_device", "[3.0, 21.0]", "border only", "chance", "homomorphic"):
        assert words in section
    assert "At another hospital" not in least.text


def test_images_unlike_the_training_set_stand_with_alarms_and_area(full: Page, least: Page):
    assert "plain 4.5 %" in full.text and "other device 0.71, noise 0.99" in full.text
    assert "unlike the training set" not in least.text


def test_probabilities_stand_before_and_after_the_temperature(full: Page, least: Page, tmp_path: Path):
    text = full.text
    assert "plain 1.62 0.043 → 0.021 [0.017, 0.027] 0.246 → 0.231 [0.185, 0.300] 0.520 → 0.433 [0.346, 0.563]" in text
    assert "How far the probabilities can be believed" not in least.text
    figure = data_uri(full_content().figures["reliability"])
    assert full.sources.count(figure) == 1
    without = full_content(metrics={run: {k: v for k, v in of.items() if k != "temperature"} for run, of in full_content().metrics.items()})
    assert page_of(without, tmp_path).sources.count(figure) == 1


def test_figures_of_the_audit_are_on_the_page(full: Page):
    text = full.text
    for figure in (
        "SSIM 0.98",
        "37.2 dB",
        "first hit 62.0 % chance 0.5 %",
        "−0.06, 0.08",
        "rank correlation 0.9991",
        "7.955",
        "strides 2 and 4 2 0.93 32.4",
    ):
        assert figure in text, figure


def test_a_new_protection_and_a_new_attack_need_no_change(tmp_path: Path):
    attack = {"ssim": 0.5, "psnr": 20.0, "knowledge": "a crystal ball", "surface": "artifact"}
    audit = {
        "rot13": {
            "attacks": {"oracle": attack},
            "verdict": {"level": "leaky", "sentence": "So.", "best_attack": "oracle", "best_ssim": 0.5},
        }
    }
    content = least_content()
    metrics = {"rot13": content.metrics["opaque"]} | dict(content.metrics)
    details = content.details | {"branches": BRANCHES | {"rot13": "rot13"}}
    text = page_of(replace(content, audit=audit | dict(content.audit), metrics=metrics, details=details), tmp_path).text
    assert "oracle a crystal ball SSIM 0.50" in text and "rot13 leaky So." in text


@pytest.mark.parametrize(
    ("attack", "said"),
    [
        (
            {"ssim": 0.99, "psnr": 40.0, "surface": "view"},
            "Attackers rebuilt the images of homomorphic from the view that its network was given.",
        ),
        ({"auc": 0.8, "auc_low": 0.7, "surface": "pool"}, "Some parties can tell whose films homomorphic was trained on."),
        ({"ssim": 0.6, "psnr": 12.0, "surface": "artifact"}, "Attackers got something out of homomorphic."),
    ],
)
def test_the_first_paragraph_says_what_a_leaky_run_gave_away(attack, said):
    verdict = {"level": "leaky", "sentence": "So.", "best_attack": "oracle" if "ssim" in attack else None, "best_ssim": attack.get("ssim")}
    content = least_content()
    audit = {"homomorphic": {"attacks": {"oracle": {"knowledge": "x", **attack}}, "verdict": verdict}}
    metrics = {"homomorphic": content.metrics["opaque"]} | dict(content.metrics)
    assert said in _summary(replace(content, audit=audit, metrics=metrics))


def test_who_tells_members_stands_with_the_interval_and_what_would_have_been_found(tmp_path: Path):
    area = {"auc": 0.69, "auc_low": 0.67, "auc_high": 0.71, "auc_least": 0.52, "auc_found": 0.54}
    attack = area | {"party": "user of the head", "knowledge": "user of the head: the integer head", "surface": "pool"}
    fewer = {
        "by_ratio": [{"films a feature": 16, "user pool": 0.69}],
        "party": "key holder",
        "knowledge": "key holder: the total",
        "surface": "pool",
    }
    content = least_content()
    attacks = {"user_pool": attack, "fewer_films": fewer}
    audit = {name: found | {"attacks": found["attacks"] | attacks} for name, found in content.audit.items()}
    text = page_of(replace(content, audit=audit), tmp_path).text
    assert "members, area under ROC 0.69 [0.67, 0.71] counts from 0.52; a true 0.54 is found 4 times of 5" in text
    assert "films a feature user pool 16 0.69" in text
    assert text.count("Who tells whose films trained") == len(audit) and "user pool user of the head: the integer head members" in text
    assert "not run" not in text  # by protections that have no such parties


def test_everything_from_a_file_is_escaped(tmp_path: Path):
    evil = "<script>alert(1)</script>"
    verdict = {"level": "leaky", "sentence": evil, "best_attack": evil, "best_ssim": None}
    audit = {evil: {"attacks": {evil: {"does_not_apply": evil, "knowledge": evil}}, "verdict": verdict}}
    metrics = {evil: full_content().metrics["opaque"]} | dict(full_content().metrics)
    provenance = {"git_commit": evil, "git_dirty": True, "hashes": {evil: evil}, "versions": {evil: evil}}
    details = full_content().details | {"branches": dict.fromkeys(metrics, evil)}
    content = full_content(audit=audit, metrics=metrics, details=details, pictures={}, config={evil: evil}, provenance=provenance)
    page = page_of(content, tmp_path)
    assert "<script" not in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert evil in page.text


def test_the_same_content_gives_the_same_bytes(tmp_path: Path):
    write_html(tmp_path / "a.html", full_content())
    write_html(tmp_path / "b.html", full_content())
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_large_noise_does_not_swell_the_page(tmp_path: Path):
    rng = np.random.default_rng(1)
    large = rng.integers(0, 256, (512, 512, 3), dtype=np.uint8)
    films = [
        PictureRow(i, large[:224, :224, 0], large, {str(a): Rebuilding(large[:224, :224, 1], 9.0, 0.0) for a in range(5)}) for i in range(6)
    ]
    page_of(full_content(pictures=dict.fromkeys(("deterministic", "opaque", "homomorphic"), films)), tmp_path)
    assert (tmp_path / "report.html").stat().st_size < MAX_BYTES


def test_the_attack_of_the_verdict_is_shown_first(tmp_path: Path):
    film = chest(1)
    rows = [PictureRow(7, film, film, {"better": Rebuilding(film, 90.0, 0.99), "seriation": Rebuilding(film, 20.0, 0.5)})]
    found = full_content().audit["deterministic"]
    audit = full_content().audit | {"deterministic": found | {"verdict": found["verdict"] | {"best_attack": "seriation"}}}
    text = page_of(full_content(pictures={"deterministic": rows}, audit=audit), tmp_path).text
    assert text.index("seriation SSIM 0.50") < text.index("better SSIM 0.99")


def write_files(reports: Path) -> None:
    content = full_content()
    (reports / "evaluation").mkdir(parents=True)
    parts = {"metrics.json": content.metrics, "evaluation/details.json": content.details, "external.json": content.external}
    for path, part in (parts | {"data.json": content.data}).items():
        (reports / path).write_text(json.dumps(part), encoding="utf-8")
    for protection, steps in content.cost.items():
        for step, cost in steps.items():
            (reports / "cost" / protection).mkdir(parents=True, exist_ok=True)
            (reports / "cost" / protection / f"{step}.json").write_text(json.dumps(cost), encoding="utf-8")
    for protection, audit in content.audit.items():
        (reports / "audit" / protection).mkdir(parents=True)
        (reports / "audit" / protection / "audit.json").write_text(json.dumps({"protection": protection} | dict(audit)), encoding="utf-8")
        np.savez_compressed(reports / "audit" / protection / "pictures.npz", **pictures())


def read(reports: Path, config: dict = CONFIG) -> ReportContent:
    branches = ("deterministic", "opaque", "homomorphic")
    return read_content(reports, reports, branches, measures=MEASURES, config=config, provenance={}, figures={})


def test_files_are_read_as_they_were_written(tmp_path: Path):
    write_files(tmp_path)
    content, wanted = read(tmp_path), full_content()
    assert content.metrics == wanted.metrics and content.details == wanted.details and content.data == wanted.data
    assert content.cost == wanted.cost and content.external == wanted.external and content.synthetic
    assert {name: found["attacks"] for name, found in content.audit.items()} == {n: found["attacks"] for n, found in wanted.audit.items()}
    assert [row.row for row in content.pictures["opaque"]] == [4, 9]
    assert not read(tmp_path, {"dataset": {"_target_": "a.Folder"}}).synthetic


@pytest.mark.parametrize("path", ["metrics.json", "evaluation/details.json", "external.json", "data.json", "audit/opaque/audit.json"])
def test_a_missing_or_damaged_file_is_named(path: str, tmp_path: Path):
    write_files(tmp_path)
    (tmp_path / path).write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match=f"{path} cannot be read as JSON"):
        read(tmp_path)
    (tmp_path / path).unlink()
    with pytest.raises(DataError, match=f"{path} is missing"):
        read(tmp_path)


def test_an_audit_without_a_verdict_is_refused(tmp_path: Path):
    write_files(tmp_path)
    (tmp_path / "audit" / "opaque" / "audit.json").write_text('{"attacks": {}}', encoding="utf-8")
    with pytest.raises(DataError, match="must hold attacks and verdict"):
        read(tmp_path)


def pictures(**changes: np.ndarray) -> dict[str, np.ndarray]:
    films = np.stack([chest(1), chest(2)])
    return {"rows": np.array([4, 9]), "original": films, "seen": np.zeros((2, 5, 6, 3), np.uint8), "rebuilt__ratio": films.copy()} | changes


def test_pictures_are_read(tmp_path: Path):
    np.savez_compressed(tmp_path / "pictures.npz", **pictures())
    first, second = read_pictures(tmp_path / "pictures.npz", MEASURES)
    assert (first.row, second.row) == (4, 9) and second.seen.shape == (5, 6, 3)
    assert np.array_equal(second.original, chest(2)) and second.rebuilt["ratio"].ssim == 1.0 and second.rebuilt["ratio"].psnr == 30.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seen": np.zeros((2, 5, 6, 4), np.uint8)}, "seen must be uint8"),
        ({"seen": np.zeros((1, 5, 6), np.uint8)}, "seen must be uint8"),
        ({"seen": np.array([None, None])}, "cannot be read"),
        ({"rebuilt__ratio": np.zeros((2, 64, 63), np.uint8)}, r"rebuilt__ratio must be uint8 \(2, 64, 64\)"),
        ({"rebuilt__ratio": np.zeros((2, 64, 64))}, "float64"),
        ({"rows": np.array([0.5, 1.5])}, "rows must be integers"),
        ({"original": np.zeros((2, 64), np.uint8)}, r"original must be \(images, height, width\)"),
    ],
)
def test_wrong_pictures_are_refused(changes: dict, message: str, tmp_path: Path):
    np.savez_compressed(tmp_path / "pictures.npz", **pictures(**changes))
    with pytest.raises(DataError, match=message):
        read_pictures(tmp_path / "pictures.npz", MEASURES)


def test_pictures_that_lack_or_are_no_archive_are_refused(tmp_path: Path):
    path = tmp_path / "pictures.npz"
    with pytest.raises(DataError, match="is missing: run the stage `audit`"):
        read_pictures(path, MEASURES)
    for damaged in (b"no archive", b"PK\x03\x04 and no more", b""):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match="cannot be read"):
            read_pictures(path, MEASURES)
    with path.open("wb") as file:
        np.save(file, np.arange(2))
    with pytest.raises(DataError, match="cannot be read as arrays"):
        read_pictures(path, MEASURES)
    np.savez_compressed(path, **pictures())
    whole = path.read_bytes()
    path.write_bytes(whole[:200] + bytes(100) + whole[300:])
    with pytest.raises(DataError, match="cannot be read"):
        read_pictures(path, MEASURES)
    np.savez(path, rows=np.arange(2))
    with pytest.raises(DataError, match="lacks original, seen"):
        read_pictures(path, MEASURES)


def test_a_run_that_nobody_attacked_is_shown_as_one(tmp_path):
    content = full_content()
    metrics = {"plain": content.metrics["plain"], "averaging": content.metrics["homomorphic"]} | dict(content.metrics)
    details = {**content.details, "branches": BRANCHES | {"averaging": "plain"}}
    write_html(tmp_path / "report.html", replace(content, metrics=metrics, details=details))
    text = (tmp_path / "report.html").read_text()
    assert "no attack was run" in text and re.search(r"Not drawn, since no attacker's SSIM is known: [^<]*averaging", text)
