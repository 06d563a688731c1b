"""What a run logged in train.jsonl, as curves over its steps."""

import json
import math

from fpn_tf.evaluation.coco import METRICS

SCORES = METRICS[:3]  # AP, AP50, AP75
HELD_OUT = "held_out_losses"  # of an evaluation: {name: loss}
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
            class stands under `per_class`, a dict, losses on held-out photos under HELD_OUT. What is
            no number, not finite or COCO's -1 is left out.

    Returns:
        (losses, losses on held-out photos, scores), each {name: (steps, values)}.
    """
    losses, held_out, scores = {}, {}, {}
    for line in lines:
        of_classes = _dict_of(line, "per_class")
        of_classes = of_classes if len(of_classes) <= MOST_CLASSES else {}
        at_step = {name: value for name, value in line.items() if name in SCORES}
        at_step |= {f"AP of {name}": value for name, value in of_classes.items()}
        _add(scores, line["step"], at_step)
        _add(losses, line["step"], {name: value for name, value in line.items() if name.endswith("_loss")})
        _add(held_out, line["step"], _dict_of(line, HELD_OUT))
    return _sorted(losses), _sorted(held_out), _sorted(scores)


def _dict_of(line, key):
    return line[key] if isinstance(line.get(key), dict) else {}


def _add(curves, step, values):
    for name, value in values.items():
        if _is_number(value) and value >= 0:
            curves.setdefault(name, {})[step] = value


def _sorted(curves):
    """{name: {step: value}} -> {name: (steps, values)}."""
    return {name: tuple(zip(*sorted(curve.items()))) for name, curve in curves.items()}


def _is_number(value):
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
