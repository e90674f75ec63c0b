"""What is said of each run at a glance."""

import pytest

from ppdl.evaluation.report.answer import HEAD, Answer, glance, summary_metric

METRICS = {"num_images": 201, "accuracy": 0.8507, "accuracy_low": 0.78607, "accuracy_high": 0.9045}
COMPARISON = {"difference": -0.0298507, "low": -0.0995, "high": 0.0348, "verdict": "inconclusive"}
IN_THE_CLEAR, NOT_ATTACKED = {"level": "in the clear", "best_ssim": 1.0}, {"level": "not attacked", "best_ssim": None}
BROKEN = {"level": "broken", "best_ssim": 0.99986, "best_attack": "ratio"}


def build(**changes) -> Answer:
    given = {"run": "deterministic", "found": METRICS, "comparison": COMPARISON, "verdict": BROKEN, "blind_ssim": 0.4}
    given |= {"costs": [{"seconds": 1.25, "bytes": 3}, {"seconds": 0.5}], "bytes_per_pixel": 1.04836}
    return Answer(**(given | changes))


def test_figures_come_from_the_run_its_audit_and_its_costs():
    found = build()
    assert found.metrics == {"accuracy": 0.8507, "attacker_gain": 0.5999, "bytes_per_pixel": 1.048, "protect_seconds": 1.75}
    slow = build(costs=[{"seconds": 1284.0}])
    assert "1,284" in slow.row()
    assert found.tags == {"utility": "inconclusive", "leakage": "broken"}


def test_plain_costs_nothing_and_hides_nothing():
    plain = build(run="plain", comparison=None, verdict=IN_THE_CLEAR, costs=(), bytes_per_pixel=1.0)
    assert plain.metrics == {"accuracy": 0.8507, "attacker_gain": 0.6, "bytes_per_pixel": 1.0, "protect_seconds": 0.0}
    assert plain.tags == {"leakage": "in the clear"}


def test_what_is_not_known_is_no_number():
    found = build(costs=None, bytes_per_pixel=None, verdict={"level": "unbroken", "best_ssim": None})
    assert [name for name, value in found.metrics.items() if value is None] == ["attacker_gain", "bytes_per_pixel", "protect_seconds"]
    assert found.row()[3:6] == ["", "", ""]
    assert build(blind_ssim=None).metrics["attacker_gain"] is None and build(blind_ssim=None).row()[3] == "1.00"


def test_a_sound_protection_gains_an_attacker_nothing():
    sound = build(verdict={"level": "unbroken", "best_ssim": 0.4012, "best_attack": "blind"}, blind_ssim=0.4012)
    assert sound.metrics["attacker_gain"] == 0 and sound.row()[3] == "0.40 (+0.00)"
    assert build().row()[3] == "1.00 (+0.60)"


def test_the_summary_has_a_number_for_each_figure_and_run():
    plain = build(run="plain", comparison=None, verdict=IN_THE_CLEAR, costs=(), bytes_per_pixel=1.0)
    head = build(run="head", verdict={"level": "unbroken", "best_ssim": None}, blind_ssim=None)
    averaged = summary_metric([build(run="averaging", verdict=NOT_ATTACKED)])
    assert averaged["leakage"] == averaged["attacker_gain"] == {} and averaged["accuracy"] == {"averaging": 0.8507}
    assert summary_metric([plain, build(), head]) == {
        "accuracy": {"plain": 0.8507, "deterministic": 0.8507, "head": 0.8507},
        "accuracy_low": {"plain": 0.7861, "deterministic": 0.7861, "head": 0.7861},
        "accuracy_high": {"plain": 0.9045, "deterministic": 0.9045, "head": 0.9045},
        "attacker_gain": {"plain": 0.6, "deterministic": 0.5999},
        "leakage": {"plain": 3, "deterministic": 2, "head": 0},
    }


@pytest.mark.parametrize("control", ["at chance", "beats chance", "cannot tell", "beat chance before"])
def test_a_control_says_what_became_of_it(control):
    assert build(found=METRICS | {"control": control}).tags["utility"] == f"inconclusive, {control}"


def test_the_note_has_a_line_that_stands_alone_and_a_full_table():
    plain = build(run="plain", comparison=None, verdict=IN_THE_CLEAR, costs=(), bytes_per_pixel=1.0)
    note = glance([plain, build()], {"chance": {"accuracy": 0.254}}, links={"plain": "#/run"}, dataset="phantom", origin="201 test images.")
    first, _, *rest = note.splitlines()
    assert first == f"**Accuracy beside leakage.** {METRICS['num_images']} test images of phantom, 2 runs: 1 in the clear, 1 broken."
    table = [line for line in rest if line.startswith("|")]
    assert len(table) == 4 and {line.count("|") for line in table} == {len(HEAD) + 1}
    assert "[plain](#/run)" in table[2] and "-3.0 [-10.0, +3.5]" in table[3] and "1.75" in table[3]
    assert "Controls: chance 25.4 %. 201 test images." in note
