"""Line charts and bars as inline SVG, out of plain numbers."""

import html
import math
import types
from collections.abc import Mapping

LINE_COLORS = ("#1f5fbf", "#d9480f", "#2b8a3e", "#9c36b5", "#0b7285", "#c92a2a", "#5f3dc4", "#846200")
MARK_COLOR = "#d9480f"
MOST_POINTS = 300  # of a line: more cannot be told apart
LEFT, RIGHT, BOTTOM, TOP = 48, 24, 36, 10  # margins, pixels
NO_LINES: Mapping[str, tuple] = types.MappingProxyType({})
IN_ROW, ROW = 3, 16  # entries in a row of the legend, and its height in pixels


def line_chart(
    lines, size=(560, 240), x_range=None, y_range=None, labels=("", ""), mark=None, dashed=NO_LINES
):
    """A chart of lines over common axes, with a legend where there are several.

    Args:
        lines: name -> (x values, y values), finite numbers, as many of both.
        size: (width, height) in pixels.
        x_range: (lowest, highest); None: of the values.
        y_range: (lowest, highest); None: from 0 to the highest value.
        labels: of the two axes.
        mark: (x, y) of a point to mark, or None.
        dashed: as `lines`, which have the same colours under the same names; at least one line of both.

    Returns:
        An `<svg>` element.
    """
    every_line = [*lines.items(), *dashed.items()]
    xs, ys = ([value for _, line in every_line for value in line[axis]] for axis in (0, 1))
    x_range = _widened(x_range or (min(xs), max(xs)))
    y_range = _widened(y_range or (0, max(ys)))
    colors = dict(zip({**lines, **dashed}, _colors()))
    legend = colors if len(every_line) > 1 else {}
    top = TOP + ROW * math.ceil(len(legend) / IN_ROW) + (ROW if labels[1] else 0)
    place = _placer(size, top, x_range, y_range)
    parts = [_legend(legend, size[0]), _axes(place, x_range, y_range), _axis_labels(labels, size, top)]
    for number, (name, line) in enumerate(every_line):
        points = [place(x, y) for x, y in _thinned(list(zip(*line)))]
        parts.append(_polyline(points, colors[name], number >= len(lines)))
        if len(points) == 1:
            parts.append(_dot(points[0], colors[name]))
    if mark:
        parts.append(_dot(place(*mark), MARK_COLOR))
    return _svg(*size, parts)


def bar_chart(bars, highest, width=360):
    """Bars that lie below each other, each with its name and value.

    Args:
        bars: a list of (name, value, text of the value, colour).
        highest: the value of a bar over the whole width.
        width: of such a bar, pixels.

    Returns:
        An `<svg>` element.
    """
    parts, step, left = [], 26, 130
    for row, (name, value, text, color) in enumerate(bars):
        length = max(value, 0) / (highest or 1) * width
        parts += [
            _text(left - 8, row * step + 17, name, "end"),
            f'<rect x="{left}" y="{row * step + 4}" width="{length:.1f}" height="18" fill="{color}"/>',
            _text(left + length + 6, row * step + 17, text),
        ]
    return _svg(left + width + 160, step * len(bars), parts)


def _placer(size, top, x_range, y_range):
    """A function of a point's (x, y) that gives its pixel (x, y)."""
    width, height = size[0] - LEFT - RIGHT, size[1] - top - BOTTOM

    def place(x, y):
        across = (x - x_range[0]) / (x_range[1] - x_range[0])
        up = (y - y_range[0]) / (y_range[1] - y_range[0])
        return LEFT + across * width, top + (1 - up) * height

    return place


def _axes(place, x_range, y_range):
    """Grid lines and the numbers of both axes."""
    parts = []
    for value in _ticks(*y_range):
        x, y = place(x_range[0], value)
        end = place(x_range[1], value)[0]
        parts.append(f'<path class="grid" d="M{x:.1f},{y:.1f}H{end:.1f}"/>')
        parts.append(_text(x - 6, y + 4, f"{value:g}", "end"))
    for value in _ticks(*x_range):
        x, y = place(value, y_range[0])
        parts.append(_text(x, y + 15, f"{value:g}", "middle"))
    return "".join(parts)


def _axis_labels(labels, size, top):
    return _text(size[0] - RIGHT, size[1] - 5, labels[0], "end") + _text(4, top - 8, labels[1])


def _polyline(points, color, is_dashed):
    corners = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dashes = ' stroke-dasharray="6 4"' if is_dashed else ""
    return f'<polyline points="{corners}" fill="none" stroke="{color}" stroke-width="1.6"{dashes}/>'


def _legend(colors, width):
    parts = []
    for number, (name, color) in enumerate(colors.items()):
        row, column = divmod(number, IN_ROW)
        x, y = LEFT + column * (width - LEFT) / IN_ROW, 12 + ROW * row
        parts.append(f'<rect x="{x:.1f}" y="{y - 9}" width="10" height="10" fill="{color}"/>')
        parts.append(_text(x + 14, y, name))
    return "".join(parts)


def _colors():
    """The lines' colours, over and over."""
    while True:
        yield from LINE_COLORS


def _text(x, y, text, anchor="start"):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{html.escape(text)}</text>'


def _dot(point, color):
    return f'<circle cx="{point[0]:.1f}" cy="{point[1]:.1f}" r="4" fill="{color}"/>'


def _svg(width, height, parts):
    return f'<svg width="{width}" height="{height}" viewBox="0 0 {width} {height}">{"".join(parts)}</svg>'


def _widened(bounds):
    """A range that is not empty."""
    low, high = bounds
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def _ticks(low, high):
    """About five round numbers within a range."""
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def _thinned(points):
    """At most MOST_POINTS means of neighbours, in place of more points."""
    size = math.ceil(len(points) / MOST_POINTS)
    if size <= 1:
        return points
    groups = [points[i : i + size] for i in range(0, len(points), size)]
    return [tuple(sum(values) / len(values) for values in zip(*group)) for group in groups]
