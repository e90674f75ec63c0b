"""Metrics equal scikit-learn's, obey their laws, and their intervals cover what they promise."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from ppdl.errors import DataError
from ppdl.evaluation.measures.metrics import CLASS_METRICS, METRICS, evaluate
from ppdl.evaluation.predictions.intervals import Support, difference_ends, group_codes, jackknife, share_interval, value_interval
from ppdl.evaluation.predictions.predictions import Predictions
from ppdl.evaluation.predictions.scores import auroc, probabilities, scores


def evaluate_run(labels, logits, class_names, *, groups=None):
    rows = np.arange(len(labels))
    return evaluate(Predictions(labels, logits, rows if groups is None else groups, rows, tuple(class_names)))


@st.composite
def any_test_set(draw):
    """Any small test set: logits on a coarse grid, so that ties are common, and classes that may lack images."""
    k, n = draw(st.integers(2, 4)), draw(st.integers(4, 40))
    labels = draw(st.lists(st.integers(0, k - 1), min_size=n, max_size=n))
    logits = draw(st.lists(st.lists(st.integers(-3, 3), min_size=k, max_size=k), min_size=n, max_size=n))
    groups = draw(st.lists(st.integers(0, n // 2), min_size=n, max_size=n).filter(lambda groups: len(set(groups)) > 1))
    return np.array(labels), np.array(logits, float), np.array(groups), tuple("ABCD"[:k])


def sklearn_metrics(labels, logits):
    chances, predicted, k = probabilities(logits), logits.argmax(axis=1), logits.shape[1]
    present = np.unique(labels)
    return {
        "accuracy": reference.accuracy_score(labels, predicted),
        "balanced_accuracy": reference.recall_score(labels, predicted, labels=present, average="macro", zero_division=0),
        "macro_f1": reference.f1_score(labels, predicted, labels=present, average="macro", zero_division=0),
        "auroc": np.mean([reference.roc_auc_score(labels == c, chances[:, c]) for c in present]) if len(present) > 1 else None,
        "log_loss": reference.log_loss(labels, chances, labels=np.arange(k)),
        "brier": np.square(chances - np.eye(k)[labels]).sum(axis=1).mean(),
    }


@settings(max_examples=60, deadline=None)
@given(any_test_set())
def test_metrics_equal_scikit_learn(test_set):
    labels, logits, groups, class_names = test_set
    found = evaluate_run(labels, logits, class_names, groups=groups)
    for name, value in sklearn_metrics(labels, logits).items():
        assert found[name] == pytest.approx(value, abs=1e-9), name
    predicted, classes = logits.argmax(axis=1), np.arange(len(class_names))
    precision, recall, f1, counts = reference.precision_recall_fscore_support(labels, predicted, labels=classes, zero_division=0)
    for c, name in enumerate(class_names):
        per_class = found["per_class"][name]
        assert per_class["num_images"] == counts[c]
        assert per_class["precision"] == pytest.approx(precision[c])
        assert per_class["recall"] == (pytest.approx(recall[c]) if counts[c] else None)
        assert per_class["f1"] == (pytest.approx(f1[c]) if counts[c] else None)
    assert found["confusion"]["counts"] == reference.confusion_matrix(labels, predicted, labels=classes).tolist()


def test_metrics_equal_scikit_learn_s_own_averages_where_every_class_is_tested(simulated):
    predictions = simulated(300, 4, skill=1.0)
    found = evaluate(predictions)
    chances = probabilities(predictions.logits)
    assert found["balanced_accuracy"] == pytest.approx(reference.balanced_accuracy_score(predictions.labels, predictions.predicted))
    assert found["macro_f1"] == pytest.approx(reference.f1_score(predictions.labels, predictions.predicted, average="macro"))
    assert found["auroc"] == pytest.approx(reference.roc_auc_score(predictions.labels, chances, multi_class="ovr", average="macro"))


@settings(max_examples=20, deadline=None)
@given(any_test_set())
def test_a_metric_without_a_group_is_that_of_the_other_images(test_set):
    labels, logits, groups, class_names = test_set
    codes, num_groups = group_codes(groups)
    found = scores(Predictions(labels, logits, groups, np.arange(len(labels)), class_names), codes, num_groups)
    for g in range(num_groups):
        for name, value in sklearn_metrics(labels[codes != g], logits[codes != g]).items():
            assert found[name][1 + g] == pytest.approx(np.nan if value is None else value, abs=1e-9, nan_ok=True), name


def test_calibration_error_by_hand():
    """Ten images at confidence 0.8, six right; five at 0.6, all right: 10/15 * 0.2 + 5/15 * 0.4."""
    confidence = np.r_[np.full(10, 0.8), np.full(5, 0.6)]
    labels = np.r_[np.zeros(6, int), np.ones(4, int), np.zeros(5, int)]
    logits = np.log(np.stack([confidence, 1 - confidence], axis=1))
    assert evaluate_run(labels, logits, ("A", "B"))["ece"] == pytest.approx(10 / 15 * 0.2 + 5 / 15 * 0.4, abs=1e-6)


def test_calibration_bins_have_equal_width_and_the_last_holds_certainty():
    """Confidences 0.59 and 0.61 lie in bins of their own (the edge is 9/15), so their errors cannot cancel; 1 is no 16th bin."""
    logits = np.log(np.array([[0.59, 0.41], [0.61, 0.39], [1 - 1e-30, 1e-30]]))
    found = evaluate_run(np.array([0, 1, 0]), logits, ("A", "B"))
    assert found["ece"] == pytest.approx((0.41 + 0.61) / 3, abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(any_test_set(), st.integers(0, 2**32 - 1))
def test_intervals_hold_the_estimate_and_stay_in_range(test_set, seed):
    labels, logits, groups, class_names = test_set
    found = evaluate_run(labels, logits, class_names, groups=groups)
    parts = [(found, METRICS), *((part, CLASS_METRICS) for part in found["per_class"].values())]
    for part, names in parts:
        for name in names:
            estimate, low, high = part[name], part[f"{name}_low"], part[f"{name}_high"]
            assert (low is None) == (high is None) or name == "log_loss"  # nothing bounds the log loss of few groups
            if low is not None:
                assert 0 <= low <= estimate <= (np.inf if high is None else high)
                assert high is None or high <= 1 + 1e-12 or name in ("brier", "log_loss")


@settings(max_examples=30, deadline=None)
@given(any_test_set(), st.randoms(use_true_random=False))
def test_the_order_of_images_and_of_classes_does_not_matter(test_set, random):
    labels, logits, groups, class_names = test_set
    order = np.array(random.sample(range(len(labels)), len(labels)))
    classes = np.array(random.sample(range(len(class_names)), len(class_names)))
    untied = logits + np.arange(len(class_names)) * 0.01  # equal logits go to the first class, which is another one afterwards
    found = evaluate_run(labels, untied, class_names, groups=groups)
    moved = evaluate_run(
        np.argsort(classes)[labels[order]], untied[order][:, classes], tuple(class_names[c] for c in classes), groups=groups[order]
    )
    for name in found.keys() - {"per_class", "confusion"}:
        assert moved[name] == pytest.approx(found[name], abs=1e-9), name
    assert {c: part["recall"] for c, part in moved["per_class"].items()} == {c: part["recall"] for c, part in found["per_class"].items()}


def test_a_perfect_run_has_no_interval_of_width_zero(simulated):
    predictions = simulated(120, skill=50.0, group_size=2)
    found = evaluate(predictions)
    assert [found[name] for name in ("accuracy", "balanced_accuracy", "macro_f1", "auroc")] == [1, 1, 1, 1]
    assert found["accuracy_low"] == pytest.approx(0.025 ** (1 / 60))  # Clopper-Pearson with 60 groups, not 120 images
    assert found["per_class"]["A"]["recall_low"] == pytest.approx(0.025 ** (1 / 20))
    assert found["per_class"]["A"]["precision_low"] == pytest.approx(0.025 ** (1 / 20))
    assert found["confusion"]["share_high"][0][1] == pytest.approx(1 - 0.025 ** (1 / 20))
    assert found["ece"] == pytest.approx(0, abs=1e-9)


def test_a_class_without_test_images_is_left_out_of_means_and_reported(caplog):
    labels = np.array([0, 0, 0, 1, 1, 1])
    logits = np.eye(3)[[0, 0, 1, 1, 1, 2]] * 2.0
    found = evaluate_run(labels, logits, ("A", "B", "C"))
    assert "no test image is of class C" in caplog.text
    assert found["balanced_accuracy"] == pytest.approx(2 / 3)
    assert found["macro_f1"] == pytest.approx((0.8 + 2 / 3) / 2)
    assert found["auroc"] == pytest.approx(np.mean([found["per_class"][name]["auroc"] for name in "AB"]))
    absent = found["per_class"]["C"]
    assert {absent[name] for name in ("recall", "recall_low", "recall_high", "f1", "auroc", "auroc_low")} == {None}
    assert (absent["precision"], absent["num_images"]) == (0, 0)
    assert found["confusion"]["share"][2] == [None] * 3


def test_one_class_has_no_auroc():
    found = evaluate_run(np.zeros(5, int), np.eye(2)[[0, 0, 0, 1, 1]], ("A", "B"))
    assert (found["auroc"], found["auroc_low"], found["auroc_high"]) == (None, None, None)
    assert found["accuracy"] == pytest.approx(0.6)


def test_a_class_that_is_never_predicted_has_precision_zero_without_interval():
    found = evaluate_run(np.array([0, 1, 0, 1]), np.eye(2)[[0, 0, 0, 0]], ("A", "B"))["per_class"]["B"]
    assert (found["precision"], found["precision_low"], found["precision_high"]) == (0, None, None)


def test_copies_of_images_in_their_groups_teach_nothing(simulated):
    """Three copies of each image, kept in its group, leave every interval as it was; without groups they seem to be evidence."""
    predictions = simulated(120, skill=1.0)
    thrice = np.repeat(np.arange(120), 3)
    copied = {"labels": predictions.labels[thrice], "logits": predictions.logits[thrice], "class_names": predictions.class_names}
    once = evaluate(predictions)
    grouped = evaluate_run(**copied, groups=thrice)
    for name in METRICS:
        for key in (name, f"{name}_low", f"{name}_high"):
            assert grouped[key] == pytest.approx(once[key], rel=0.05)  # they differ where `most_trials` binds
    naive = evaluate_run(**copied)
    width, naive_width = (found["accuracy_high"] - found["accuracy_low"] for found in (grouped, naive))
    assert naive_width == pytest.approx(width / np.sqrt(3), rel=0.15)


def test_the_interval_of_accuracy_equals_the_binomial_s_spread(simulated):
    predictions = simulated(2000, skill=1.0)
    found = evaluate(predictions)
    error = np.sqrt(found["accuracy"] * (1 - found["accuracy"]) / 2000)
    assert found["accuracy_low"] == pytest.approx(found["accuracy"] - 1.96 * error, abs=0.1 * error)
    assert found["accuracy_high"] == pytest.approx(found["accuracy"] + 1.96 * error, abs=0.1 * error)


def test_intervals_cover_the_truth_and_need_the_groups_for_it():
    """300 simulated studies of 60 patients with 4 images each, whose answers agree within a patient."""
    rng = np.random.default_rng(20)
    num_studies, num_groups, size, truth = 300, 60, 4, 0.8
    covered = {"cluster": 0, "naive": 0}
    for _ in range(num_studies):
        patient = rng.beta(truth * 2, (1 - truth) * 2, num_groups)  # each patient is easy or hard
        right = rng.random((num_groups, size)) < patient[:, None]
        labels = np.zeros(num_groups * size, int)
        logits = np.where(right.ravel()[:, None], [1.0, 0.0], [0.0, 1.0])
        for name, groups in (("cluster", np.repeat(np.arange(num_groups), size)), ("naive", None)):
            found = evaluate_run(labels, logits, ("A", "B"), groups=groups)
            covered[name] += found["accuracy_low"] <= truth <= found["accuracy_high"]
    assert 0.92 <= covered["cluster"] / num_studies <= 0.99
    assert covered["naive"] / num_studies < 0.9


@pytest.mark.parametrize("name", ["macro_f1", "auroc", "brier"])
def test_intervals_of_other_metrics_cover_the_truth(simulated, name):
    truth = evaluate(simulated(60_000, skill=1.2, seed=999))[name]
    covered = 0
    for study in range(120):
        found = evaluate(simulated(150, skill=1.2, seed=study))
        covered += found[f"{name}_low"] <= truth <= found[f"{name}_high"]
    assert covered >= 0.88 * 120


def test_the_same_predictions_give_the_same_intervals(simulated):
    predictions = simulated(100, skill=1.0)
    assert evaluate(predictions) == evaluate(predictions)


def test_an_interval_of_single_images_is_clopper_pearson_s():
    """16 of 20: 0.563 to 0.943 (any table), a little wider here for Student's t with 19 degrees of freedom."""
    right = np.arange(20) < 16
    low, high = share_interval(0.8, jackknife((16 - right) / 19), Support.of(np.ones(20)))
    assert low == pytest.approx(0.563, abs=0.03) and low < 0.563
    assert high == pytest.approx(0.943, abs=0.03) and high > 0.943


def test_groups_that_are_right_or_wrong_as_a_whole_count_once():
    single, copied = np.arange(40) < 30, 7.0 * (np.arange(40) < 30)
    one = share_interval(0.75, jackknife((30 - single) / 39), Support.of(np.ones(40)))
    assert share_interval(0.75, jackknife((210 - copied) / 273), Support.of(np.full(40, 7))) == pytest.approx(one)


@pytest.mark.parametrize("estimate", [0.0, 1.0])
def test_no_event_in_so_many_groups_leaves_its_exact_bound(estimate):
    low, high = share_interval(estimate, 0.0, Support.of(np.full(40, 3)))
    assert (low, high) == pytest.approx((0, 1 - 0.025 ** (1 / 40)) if estimate == 0 else (0.025 ** (1 / 40), 1))


def test_a_giant_group_is_one_witness():
    """A patient with 60 of 100 images: 40 others do not make 41 witnesses."""
    support = Support.of(np.r_[60, np.ones(40)])
    assert support.effective == pytest.approx(100**2 / 3640)
    low, high = share_interval(1.0, 0.0, support)
    assert low == pytest.approx(0.025 ** (1 / support.effective)) and high == 1
    assert share_interval(1.0, 0.0, Support.of(np.ones(41)))[0] > 3 * low


def test_what_is_undefined_has_no_interval_and_few_groups_give_everything():
    assert share_interval(np.nan, 0.0, Support.of(np.ones(40))) == (None, None)
    assert share_interval(0.0, 0.0, Support.of(np.zeros(40))) == (None, None)
    assert share_interval(0.5, 0.0, Support.of(np.r_[np.ones(4), np.zeros(40)])) == (0, 1)
    assert difference_ends(np.ones(4), np.zeros(4), np.ones(4)) == (-1, 1)


def test_a_mean_gets_student_s_bounds():
    values = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    low, high = value_interval(3.0, jackknife((15 - values) / 4), Support.of(np.ones(5)), largest=np.inf)
    assert (low, high) == pytest.approx((3 - 2.776 * np.sqrt(2.5 / 5), 3 + 2.776 * np.sqrt(2.5 / 5)), abs=1e-3)


def test_a_perfect_auroc_rests_on_the_class_with_fewer_groups():
    labels = np.r_[np.zeros(10, int), np.ones(90, int)]
    found = evaluate_run(labels, 5.0 * np.eye(2)[labels], ("A", "B"))
    assert found["auroc"] == 1 and found["auroc_low"] == pytest.approx(0.025 ** (1 / 10))


def test_an_interval_is_wide_where_groups_are_few(caplog):
    found = evaluate_run(np.array([0, 1, 0]), np.eye(2)[[0, 1, 1]], ("A", "B"))
    assert (found["accuracy_low"], found["accuracy_high"]) == (0, 1)
    assert (found["ece_low"], found["ece_high"]) == (0, 1) and (found["brier_low"], found["brier_high"]) == (0, 2)
    assert (found["log_loss_low"], found["log_loss_high"]) == (0, None)  # without bound, and JSON knows no infinity
    assert "an interval needs test images of at least 5 groups (patients), got 3" in caplog.text


def test_ties_count_half():
    values, positive = np.array([0.1, 0.5, 0.5, 0.9]), np.array([False, True, False, True])
    assert auroc(values, positive, np.arange(4), 4)[0] == pytest.approx(3.5 / 4)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"logits": np.full((4, 2), np.nan)}, DataError, "logits must be finite"),
        ({"logits": np.zeros((4, 3))}, DataError, r"shape \(4, 2\), got \(4, 3\)"),
        ({"labels": np.array([0, 1, 2, 0])}, DataError, r"labels must be in \[0, 2\)"),
        ({"groups": np.zeros(4, int)}, DataError, "at least 2 groups, got 4 images of one group"),
    ],
)
def test_malformed_input_is_refused(change, error, message):
    good = {"labels": np.array([0, 1, 1, 0]), "logits": np.zeros((4, 2)), "class_names": ("A", "B")}
    with pytest.raises(error, match=message), warnings.catch_warnings():
        warnings.simplefilter("error")
        evaluate_run(**good | change)
