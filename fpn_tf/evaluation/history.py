"""What a run logged in train.jsonl, as curves over its steps."""

import json
import math

from fpn_tf.evaluation.coco import METRICS

SCORES = METRICS[:3]  # AP, AP50, AP75
MOST_CLASSES = 5  # beyond, AP per class is no curve to look at


def logged_lines(text):
    """The lines of a train.jsonl that are whole and tell their step: a list of dicts."""
    lines = []
    for line in text.splitlines():
        try:
            values = json.loads(line)
        except ValueError:  # cut off in the middle
            continue
        if isinstance(values, dict) and _is_number(values.get("step")):
            lines.append(values)
    return lines


def curves_of(lines):
    """Curves of losses and of AP.

    Args:
        lines: dicts of `step` and numbers by name; of two at one step the later one counts. AP per
            class stands under `per_class`, a dict. What is no number, not finite or COCO's -1 is
            left out.

    Returns:
        (losses, scores), each {name: (steps, values)}.
    """
    losses, scores = {}, {}
    for line in lines:
        per_class = line.get("per_class")
        of_classes = per_class if isinstance(per_class, dict) and len(per_class) <= MOST_CLASSES else {}
        at_step = {name: value for name, value in line.items() if name in SCORES}
        at_step |= {f"AP of {name}": value for name, value in of_classes.items()}
        _add(scores, line["step"], at_step)
        _add(losses, line["step"], {name: value for name, value in line.items() if name.endswith("_loss")})
    return _sorted(losses), _sorted(scores)


def _add(curves, step, values):
    for name, value in values.items():
        if _is_number(value) and value >= 0:
            curves.setdefault(name, {})[step] = value


def _sorted(curves):
    """{name: {step: value}} -> {name: (steps, values)}."""
    return {name: tuple(zip(*sorted(curve.items()))) for name, curve in curves.items()}


def _is_number(value):
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
