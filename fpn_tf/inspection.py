"""`--mode=inspect`: a data set as tables, a JSON file and a sheet of pictures."""

import pathlib

import numpy as np
import rich.box
import rich.table

from fpn_tf import files, photos, visualize
from fpn_tf.data.survey import survey_of
from fpn_tf.errors import PhotoError

LONGEST_BAR = 30  # characters


def inspect(dataset, config, folder, split):
    """Surveys a data set; writes `<split>.json` and `<split>.png`.

    Args:
        dataset: Dataset.
        config: Config.
        folder: the folder to write to.
        split: the name of the data set's split.

    Returns:
        (Survey, the paths written).
    """
    survey = survey_of(dataset, config)
    paths = [pathlib.Path(folder) / f"{split}.json", pathlib.Path(folder) / f"{split}.png"]
    files.write_json(paths[0], _plain(survey))
    pictures = list(_pictures(dataset, max(config.eval.pictures, 1)))
    if not pictures:
        return survey, paths[:1]
    visualize.save_picture(visualize.contact_sheet(pictures), paths[1])
    return survey, paths


def tables(survey):
    """The rich tables of a Survey."""
    counts = {"photos": survey.photos, "boxes": survey.boxes, "crowd regions": survey.crowd_regions}
    yield _bars("in all", counts.keys(), counts.values(), drawn=False)
    classes = sorted(survey.class_counts.items(), key=lambda pair: -pair[1])
    yield _bars("class", *zip(*classes))
    for title, histogram in (
        ("photo, longer side (pixels)", survey.photo_sides),
        ("photo, width / height", survey.photo_aspects),
        ("box, square root of area (resized pixels)", survey.box_sides),
        ("box, height / width", survey.box_aspects),
    ):
        yield _bars(title, *histogram)
    table = rich.table.Table(
        "boxes whose best anchor has", "boxes", "IoU >= 0.5", "IoU >= 0.7", box=rich.box.SIMPLE
    )
    for size, (count, half, most) in survey.coverage.items():
        table.add_row(size, str(count), f"{half:.1%}", f"{most:.1%}")
    yield table


def _bars(title, labels, counts, drawn=True):
    """A rich table of counts, with a bar for each where `drawn`."""
    table = rich.table.Table(title, "", *([""] if drawn else []), box=rich.box.SIMPLE)
    longest = max(*counts, 1)
    for label, count in zip(labels, counts):
        bar = ["#" * -(-LONGEST_BAR * count // longest)] if drawn else []
        table.add_row(label, str(count), *bar)
    return table


def _pictures(dataset, count):
    """The pictures of `count` photos with boxes, evenly chosen."""
    chosen = np.flatnonzero(dataset.records.counts).tolist() or range(len(dataset.records))
    count = min(count, len(chosen))
    for index in (chosen[i * len(chosen) // count] for i in range(count)):
        record = dataset.records[index]
        try:
            photo = photos.decode_rgb(dataset.read_bytes(index), record.name)
        except (PhotoError, OSError):
            continue  # among the findings
        names = dict(zip(dataset.category_ids, dataset.class_names))
        yield visualize.draw_record(photo, record, names)


def _plain(survey):
    """The JSON values of a Survey."""
    values = survey._asdict()
    for name in ("photo_sides", "photo_aspects", "box_sides", "box_aspects"):
        values[name] = dict(zip(*values[name]))
    values["coverage"] = {
        size: {"boxes": count, "iou_0.5": half, "iou_0.7": most}
        for size, (count, half, most) in survey.coverage.items()
    }
    values["findings"] = [str(finding) for finding in survey.findings]
    return values
