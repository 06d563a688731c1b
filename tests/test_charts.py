import xml.etree.ElementTree as ET

import pytest

from fpn_tf.charts import MOST_POINTS, bar_chart, line_chart


def points_of(svg):
    """The corners of each line of a chart, pixels."""
    return [
        [tuple(map(float, corner.split(","))) for corner in line.get("points").split()]
        for line in ET.fromstring(svg).iter("polyline")
    ]


def texts_of(svg):
    return [element.text for element in ET.fromstring(svg).iter("text")]


def test_points_lie_where_the_axes_say():
    svg = line_chart({"a": ((0, 5, 10), (0, 1, 2))}, size=(172, 146), labels=("step", ""), mark=(10, 0))
    # 48 to 148 across, from 110 up to 10: the margins are 48, 24, 36 and 10 pixels.
    assert points_of(svg) == [[(48, 110), (98, 60), (148, 10)]]
    assert texts_of(svg) == ["0", "0.5", "1", "1.5", "2", "0", "2", "4", "6", "8", "10", "step", None]
    [circle] = ET.fromstring(svg).iter("circle")
    assert (circle.get("cx"), circle.get("cy")) == ("148.0", "110.0")


def test_a_legend_names_several_lines_as_text():
    names = ["<b>&", "two", "three", "four"]
    svg = line_chart(dict.fromkeys(names, ((1, 2), (0, 1))))
    assert texts_of(svg)[:4] == names
    assert len(points_of(svg)) == 4


def test_dashed_lines_share_axes_and_colours():
    svg = line_chart({"a": ((0, 1), (1, 2)), "b": ((0, 1), (0, 1))}, dashed={"b": ((1, 2), (4, 0))})
    solid_a, solid_b, dashed_b = ET.fromstring(svg).iter("polyline")
    assert solid_a.get("stroke") != solid_b.get("stroke") == dashed_b.get("stroke")
    assert [line.get("stroke-dasharray") for line in (solid_a, solid_b, dashed_b)] == [None, None, "6 4"]
    assert texts_of(svg)[:2] == ["a", "b"]  # the legend tells each name once
    (first, _), (_, last) = points_of(svg)[0], points_of(svg)[2]
    assert (first[0], last[0]) == (48, 560 - 24)  # from 0 to 2 across
    alone = line_chart({}, dashed={"a": ((0, 1), (1, 2))})
    assert len(points_of(alone)) == 1


@pytest.mark.parametrize("values", [((3,), (0.5,)), ((3, 4), (0, 0)), ((3, 3), (2, 2))])
def test_little_to_draw(values):
    svg = line_chart({"a": values})
    assert len(points_of(svg)[0]) == len(values[0])
    assert len(list(ET.fromstring(svg).iter("circle"))) == (len(values[0]) == 1)


def test_long_lines_are_thinned_to_means():
    count = 4 * MOST_POINTS
    svg = line_chart({"a": (range(count), [i % 4 for i in range(count)])}, y_range=(0, 3))
    [points] = points_of(svg)
    assert len(points) == MOST_POINTS
    assert len({y for _, y in points}) == 1  # 1.5


def test_bars_are_as_long_as_their_values():
    svg = bar_chart([("one", 0.5, "0.500", "red"), ("<two>", 0.25, "0.250", "blue")], 0.5, width=100)
    assert [rect.get("width") for rect in ET.fromstring(svg).iter("rect")] == ["100.0", "50.0"]
    assert texts_of(svg) == ["one", "0.500", "<two>", "0.250"]
    flat = bar_chart([("none", 0.0, "0", "red"), ("less", -0.1, "-0.1", "red")], 0.0)
    assert [rect.get("width") for rect in ET.fromstring(flat).iter("rect")] == ["0.0", "0.0"]
