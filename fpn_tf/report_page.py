"""The page `report.html`: one file that opens from the disk, out of plain data.

Whatever names something, classes, photos, paths, is text to it.
"""

import base64
import html
from typing import NamedTuple

from fpn_tf import charts

FEW = 12  # classes whose names fit side by side
IN_COLUMN = 3  # metrics: COCO's belong together by threes
STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #222; background: #fff;
  margin: 24px auto; max-width: 1180px; padding: 0 16px }
h1 { font-size: 24px } h2 { font-size: 19px; margin-top: 40px; border-top: 1px solid #ddd; padding-top: 16px }
h3 { font-size: 14px; margin: 8px 0 0 } p { max-width: 860px }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
.wide { overflow-x: auto; margin-bottom: 14px }
.tall { max-height: 460px; overflow-y: auto } @media print { .tall { max-height: none } }
th, td { padding: 3px 10px; text-align: right; border-bottom: 1px solid #eee }
th:first-child, .text { text-align: left } th { font-weight: 600 }
svg { font: 12px system-ui, sans-serif; max-width: 100%; height: auto } svg .grid { stroke: #e6e6e6 }
.dense { font-size: 11px } .dense th, .dense td { padding: 1px 4px; white-space: nowrap }
summary { cursor: pointer; margin: 8px 0 }
.row { display: flex; flex-wrap: wrap; gap: 20px } figure { margin: 0 }
figure.photo { width: calc(50% - 10px) } figure img { width: 100%; height: auto }
figcaption { font-size: 13px; color: #555; overflow-wrap: anywhere }
.key span { display: inline-block; margin-right: 16px }
.key i { display: inline-block; width: 12px; height: 12px; margin-right: 5px }
"""


class Picture(NamedTuple):
    """A photo of the page."""

    name: str
    caption: str
    jpeg: bytes


class ClassRow(NamedTuple):
    """What the page tells of a class; None where there is nothing to tell it by."""

    name: str
    objects: int
    ap: float | None
    ap50: float | None
    threshold: tuple | None  # (score, precision, recall, F1)
    precision: tuple  # at recalls 0, 0.01 .. 1; empty without an object


def page(title, sections):
    """A whole page.

    Args:
        title: text.
        sections: a list of `section`s' results.
    """
    title = html.escape(title)
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{STYLE}</style></head>\n<body><h1>{title}</h1>\n{''.join(sections)}</body></html>\n"
    )


def section(heading, explanation, *contents):
    """A section of the page: heading and explanation are texts, contents are HTML."""
    text = f"<p>{html.escape(explanation)}</p>" if explanation else ""
    body = "\n".join(contents)
    return f"<section><h2>{html.escape(heading)}</h2>{text}\n{body}</section>\n"


def table(head, rows):
    """An HTML table of texts and numbers; numbers are shown to three digits, None as a dash."""
    rows = [*map(tuple, rows)]
    sides = ["text" if isinstance(value, str) else "number" for value in (rows or [head])[0]]
    lines = "".join(f"<tr>{_cells('td', row, sides)}</tr>" for row in rows)
    top = f"<tr>{_cells('th', head, sides)}</tr>" if head else ""
    return f'<div class="wide"><table>{top}{lines}</table></div>'


def _cells(tag, values, sides):
    return "".join(f'<{tag} class="{side}">{_shown(value)}</{tag}>' for value, side in zip(values, sides))


def _shown(value):
    if value is None:
        return "-"
    return html.escape(f"{value:.3f}" if isinstance(value, float) else str(value))


def summary(numbers, facts):
    """The section of the main metrics: {name: number}, IN_COLUMN a column, and {name: text}."""
    rows = [(name, _or_none(value)) for name, value in numbers.items()]
    columns = [table((), rows[i : i + IN_COLUMN]) for i in range(0, len(rows), IN_COLUMN)]
    return section("Summary", "", _row([*columns, table((), facts.items())]))


def _row(contents):
    """HTML side by side."""
    return f'<div class="row">{"".join(contents)}</div>'


def curves_section(losses, held_out, scores):
    """The section of what was logged while training.

    Args:
        losses: {name: (steps, values)}.
        held_out: those of the same names on held-out photos.
        scores: {name: (steps, values)} of AP.
    """
    steps = [step for curves in (losses, held_out, scores) for line in curves.values() for step in line[0]]
    if not steps:
        return ""
    axes, figures = {"labels": ("step", ""), "x_range": (min(steps), max(steps))}, []
    if losses or held_out:
        heading = f"Losses{', dashed: on held-out photos' if held_out else ''}"
        figures.append(_figure(heading, charts.line_chart(losses, dashed=held_out, **axes)))
    if scores:
        figures.append(_figure("AP", charts.line_chart(scores, y_range=(0, 1), **axes)))
    return section("Training", "", _row(figures))


def _figure(heading, chart):
    """HTML of a chart below a heading, a text."""
    return f"<figure><h3>{html.escape(heading)}</h3>{chart}</figure>"


def lost_section(ap50, lost, counts, meanings, colors):
    """The section of kinds of error.

    Args:
        ap50: AP at IoU 0.5.
        lost: {kind: AP}.
        counts: {kind: int}.
        meanings: {kind: text}.
        colors: {kind: CSS colour}.
    """
    bars = [
        (kind, lost[kind], f"{lost[kind]:.3f}  ({counts[kind]} errors)", colors[kind]) for kind in meanings
    ]
    return section(
        "AP lost to each kind of error",
        f"AP at IoU 0.5 is {ap50:.3f}. Each bar tells by how much it would rise if that kind of error alone "
        "were mended (TIDE, Bolya et al. 2020). The gains do not add up. Errors are counted at every score.",
        charts.bar_chart(bars, max(lost.values())),
        table(
            ("kind", "what it is", "errors", "AP lost"),
            [(k, meanings[k], counts[k], lost[k]) for k in meanings],
        ),
    )


def classes_section(rows):
    """The section of classes: AP and the threshold of the best F1, then the curves, of ClassRows."""
    rows = sorted(rows, key=lambda row: (row.ap is None, row.ap))
    cells = [(row.name, row.objects, row.ap, row.ap50, *(row.threshold or [None] * 4)) for row in rows]
    head = ("class", "objects", "AP", "AP50", "best threshold", "precision", "recall", "F1")
    figures = [
        _figure(f"{row.name}: AP50 {row.ap50:.3f}", _precision_chart(row)) for row in rows if row.precision
    ]
    return section(
        "Classes",
        "The best threshold is the score that gives the largest F1, with precision and recall there, at IoU "
        "0.5. Classes of the lowest AP come first. Below: precision over recall; AP50 is the area below the "
        "curve, the dot the best threshold.",
        table(head, cells) if len(rows) <= FEW else f'<div class="tall">{table(head, cells)}</div>',
        _folded("Precision over recall", _row(figures), len(rows) <= FEW),
    )


def _folded(heading, content, is_open):
    """HTML content below a heading, a text, that shows and hides it."""
    opened = " open" if is_open else ""
    return f"<details{opened}><summary>{html.escape(heading)}</summary>{content}</details>"


def _precision_chart(row):
    recalls = [i / 100 for i in range(101)]
    mark = row.threshold and (row.threshold[2], row.threshold[1])
    lines = {row.name: (recalls, row.precision)}
    return charts.line_chart(lines, (270, 210), (0, 1), (0, 1), ("recall", "precision"), mark)


def confusion_section(names, counts):
    """The section of the confusion matrix: K names and K + 1 rows of K + 1 counts, background last."""
    names = [*names, "background"]
    is_small = len(names) <= FEW + 1
    columns = names if is_small else [str(number) for number in range(1, len(names) + 1)]
    rows = names if is_small else [f"{number}: {name}" for number, name in zip(columns, names)]
    lines = []
    for number, (name, row) in enumerate(zip(rows, counts)):
        whole = max(sum(row), 1)
        cells = [_shaded(count, count / whole, number == column) for column, count in enumerate(row)]
        lines.append(f"<tr><th>{html.escape(name)}</th>{''.join(cells)}</tr>")
    head = "".join(f"<th>{html.escape(name)}</th>" for name in ("object, detected as", *columns))
    kind = "" if is_small else ' class="dense"'
    matrix = f'<div class="wide"><table{kind}><tr>{head}</tr>{"".join(lines)}</table></div>'
    return section(
        "Confusion matrix",
        "Rows are what is there, columns what was detected, at IoU 0.5, by the detections at or above the "
        "best threshold of their class (the median of the others where a class has none). The last column "
        "counts objects that were not found, the last row detections that find no object. Shades are shares "
        "of the row.",
        _folded("The matrix", matrix, is_small),
    )


def _shaded(count, share, is_right):
    color = "43,138,62" if is_right else "217,72,15"
    style = f' style="background:rgba({color},{share * 0.6:.2f})"' if count else ""
    return f"<td{style}>{count or ''}</td>"


def recall_section(tables):
    """The section of recall: {what the groups are: {group: (objects, at any score, at the thresholds)}}."""
    head = ("objects", "found at any score", "found at the best thresholds")
    parts = [
        table((what, *head), [(name, *r) for name, r in groups.items()]) for what, groups in tables.items()
    ]
    return section("Recall by size and crowding", "Shares of the objects found at IoU 0.5.", *parts)


def pictures_section(heading, explanation, pictures, colors):
    """A section of Pictures, with the key of the boxes' colours {kind: CSS colour}."""
    if not pictures:
        return ""
    key = "".join(f'<span><i style="background:{color}"></i>{kind}</span>' for kind, color in colors.items())
    figures = "".join(
        f'<figure class="photo"><img src="data:image/jpeg;base64,{base64.b64encode(each.jpeg).decode()}" '
        f'alt="{html.escape(each.name)}"><figcaption>{html.escape(each.name)}: {html.escape(each.caption)}'
        "</figcaption></figure>"
        for each in pictures
    )
    return section(heading, explanation, f'<p class="key">{key}</p>{_row(figures)}')


def _or_none(value):
    """COCO's -1, nothing to score by, as None."""
    return None if value == -1 else value
