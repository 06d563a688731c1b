import pytest

from fpn_tf.evaluation.history import curves_of, logged_lines


def test_curves_of_what_was_logged():
    lines = logged_lines(
        '{"step": 10, "total_loss": 2.0, "head_box_loss": 1.5, "learning_rate": 0.1}\n'
        '{"step": 20, "total_loss": NaN, "head_box_loss": 1.0}\n'
        '{"step": 20, "AP": 0.25, "AP50": 0.5, "AP_small": -1, "per_class": {"cat": 0.3, "dog": -1}, '
        '"held_out_losses": {"total_loss": 3.0, "head_box_loss": null}}\n'
        '"no dict"\n{"total_loss": 3}\n{"step": "10", "total_loss": 3}\n'
        '{"step": 30, "AP": 0.3, "total_lo'
    )
    assert [line["step"] for line in lines] == [10, 20, 20]
    losses, held_out, scores = curves_of([{"step": 20, "AP": 0.1, "AP75": 0.2}, *lines])
    assert losses == {"total_loss": ((10,), (2.0,)), "head_box_loss": ((10, 20), (1.5, 1.0))}
    assert held_out == {"total_loss": ((20,), (3.0,))}
    assert scores == {
        "AP": ((20,), (0.25,)),
        "AP50": ((20,), (0.5,)),
        "AP75": ((20,), (0.2,)),
        "AP of cat": ((20,), (0.3,)),
    }


@pytest.mark.parametrize("text", ["", "\n\n", "no json"])
def test_no_log(text):
    assert curves_of(logged_lines(text)) == ({}, {}, {})


def test_many_classes_are_no_curves():
    per_class = {f"class {i}": 0.5 for i in range(80)}
    assert curves_of([{"step": 1, "AP": 0.5, "per_class": per_class}]) == ({}, {}, {"AP": ((1,), (0.5,))})
