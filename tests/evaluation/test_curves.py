import numpy as np
import pytest

from fpn_tf.evaluation.curves import Threshold, best_threshold, curve, interpolated


def test_precision_and_recall_down_the_scores():
    of_class = curve(np.array([0.2, 0.9, 0.5]), np.array([True, True, False]), objects=4)
    np.testing.assert_allclose(of_class.scores, [0.9, 0.5, 0.2])
    np.testing.assert_allclose(of_class.precision, [1, 1 / 2, 2 / 3])
    np.testing.assert_allclose(of_class.recall, [1 / 4, 1 / 4, 2 / 4])
    # Precision 1 at recalls 0 to 0.25, 2/3 to 0.5, 0 beyond.
    np.testing.assert_allclose(interpolated(of_class), [1] * 26 + [2 / 3] * 25 + [0] * 50)


def slow_best(scores, are_right, objects):
    """The best F1 over all thresholds, each counted anew."""
    best = Threshold(1, 0, 0, 0)
    for score in sorted(set(scores), reverse=True):
        kept = scores >= score
        right = int((kept & are_right).sum())
        precision, recall = right / kept.sum(), right / objects
        f1 = 2 * right / (kept.sum() + objects)
        if f1 > best.f1 + 1e-12:
            best = Threshold(score, precision, recall, f1)
    return best


@pytest.mark.parametrize("seed", range(8))
def test_best_threshold_is_that_of_a_slow_loop(seed):
    rng = np.random.default_rng(seed)
    scores, are_right = rng.integers(0, 12, 60) / 12, rng.random(60) < 0.4
    threshold = best_threshold(curve(scores, are_right, objects=30))
    assert threshold == pytest.approx(slow_best(scores, are_right, 30))


@pytest.mark.parametrize("are_right", [[], [False, False]])
def test_no_threshold_where_nothing_is_right(are_right):
    of_class = curve(np.linspace(0.9, 0.8, len(are_right)), np.array(are_right, bool), objects=2)
    assert best_threshold(of_class) is None
    assert interpolated(of_class).sum() == 0
