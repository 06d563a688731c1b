"""Our figures beside the paper's: the tables of 1612.03144, from the runs in a set of model_dirs."""

import statistics
from typing import NamedTuple

import rich.box
import rich.console
import rich.table

from fpn_tf import config as config_lib
from fpn_tf import files
from fpn_tf.errors import ConfigError


class Column(NamedTuple):
    """A column of a table."""

    key: str  # a key of metrics.json or speed.json
    heading: str
    scale: float = 100.0  # to per cent
    digits: int = 1


AP = (
    Column("AP50", "AP@.5"),
    Column("AP", "AP"),
    Column("AP_small", "APs"),
    Column("AP_medium", "APm"),
    Column("AP_large", "APl"),
)
AR = (
    Column("AR100", "AR@100"),
    Column("AR1000", "AR@1k"),
    Column("AR1000_small", "ARs@1k"),
    Column("AR1000_medium", "ARm@1k"),
    Column("AR1000_large", "ARl@1k"),
)
SEGMENT_AR = (
    Column("AR1000", "AR"),
    Column("AR1000_small", "ARs"),
    Column("AR1000_medium", "ARm"),
    Column("AR1000_large", "ARl"),
    Column("seconds_per_photo", "time (s)", 1, 2),
)


class Row(NamedTuple):
    """A line of a table."""

    name: str  # the experiment's, `config.name`; "" for the work of others, which has none
    title: str
    published: tuple  # a number for each column, None where the paper gives none


class Table(NamedTuple):
    """A table of the paper."""

    title: str
    columns: tuple
    rows: tuple


TABLES = {
    1: Table(
        "Table 1: proposals of an RPN, R-50, COCO val2017",
        AR,
        (
            Row("table1_a", "(a) conv4", (36.1, 48.3, 32.0, 58.7, 62.2)),
            Row("table1_b", "(b) conv5", (36.3, 44.9, 25.3, 55.5, 64.2)),
            Row("table1_c", "(c) FPN", (44.0, 56.3, 44.9, 63.4, 66.2)),
            Row("table1_d", "(d) bottom-up", (37.4, 49.5, 30.5, 59.9, 68.0)),
            Row("table1_d_unshared", "(d) unshared heads", (None,) * 5),
            Row("table1_e", "(e) top-down, no lateral", (34.5, 46.1, 26.5, 57.4, 64.7)),
            Row("table1_f", "(f) only finest level", (38.4, 51.3, 35.1, 59.7, 67.6)),
        ),
    ),
    2: Table(
        "Table 2: Fast R-CNN on the proposals of Table 1 (c), R-50, COCO val2017",
        AP,
        (
            Row("table2_a", "(a) conv4, conv5 head", (54.7, 31.9, 15.7, 36.5, 45.5)),
            Row("table2_b", "(b) conv5", (52.9, 28.8, 11.9, 32.4, 43.4)),
            Row("table2_c", "(c) FPN", (56.9, 33.9, 17.8, 37.7, 45.8)),
            Row("table2_d", "(d) bottom-up", (44.9, 24.9, 10.9, 24.4, 38.5)),
            Row("table2_e", "(e) top-down, no lateral", (54.0, 31.3, 13.3, 35.2, 45.3)),
            Row("table2_f", "(f) only finest level", (56.3, 33.4, 17.3, 37.3, 45.6)),
        ),
    ),
    3: Table(
        "Table 3: Faster R-CNN, features not shared, R-50, COCO val2017",
        AP,
        (
            Row("", "(*) He et al., conv4, conv5 head", (47.3, 26.3, None, None, None)),
            Row("table3_a", "(a) conv4, conv5 head", (53.1, 31.6, 13.2, 35.6, 47.1)),
            Row("table3_b", "(b) conv5", (51.7, 28.0, 9.6, 31.9, 43.1)),
            Row("table3_c", "(c) FPN", (56.9, 33.9, 17.8, 37.7, 45.8)),
        ),
    ),
    4: Table(
        "Table 4: FPN Faster R-CNN, R-101, COCO test-dev",
        AP,
        (
            Row("table4", "FPN Faster R-CNN", (59.1, 36.2, 18.2, 39.0, 48.2)),
            Row("", "G-RMI, Inception-ResNet", (None, 34.7, None, None, None)),
            Row("", "AttractioNet, VGG-16 and Wide ResNet, image pyramid", (53.4, 35.7, 15.6, 38.0, 52.7)),
            Row("", "Faster R-CNN+++, R-101, image pyramid", (55.7, 34.9, 15.6, 38.7, 50.9)),
            Row("", "Multipath, VGG-16 (minival)", (49.6, 31.5, None, None, None)),
            Row("", "ION, VGG-16", (53.4, 31.2, 12.8, 32.9, 45.2)),
        ),
    ),
    5: Table(
        "Table 5: features shared by 4-step training, COCO val2017",
        AP[:2],
        (
            Row("table5_r50", "R-50, not shared", (56.9, 33.9)),
            Row("table5_r50_shared", "R-50, shared", (57.2, 34.3)),
            Row("table5_r101", "R-101, not shared", (58.0, 35.0)),
            Row("table5_r101_shared", "R-101, shared", (58.2, 35.2)),
        ),
    ),
    6: Table(
        "Table 6: segment proposals, the first 5k images of COCO val, 1000 proposals",
        SEGMENT_AR,
        (
            Row("", "DeepMask, image pyramid", (37.1, 15.8, 50.1, 54.9, 0.49)),
            Row("", "SharpMask, image pyramid", (39.8, 17.4, 53.1, 59.1, 0.77)),
            Row("", "InstanceFCN, image pyramid", (39.2, None, None, None, 1.50)),
            Row("table6_5x5", "FPN, one MLP 5x5", (43.4, 32.5, 49.2, 53.7, 0.15)),
            Row("table6_7x7", "FPN, one MLP 7x7", (43.5, 30.0, 49.6, 57.8, 0.19)),
            Row("table6_dual", "FPN, MLPs 5x5 and 7x7", (45.7, 31.9, 51.5, 60.8, 0.24)),
            Row("table6_fine", "+ segments of 28x28", (46.7, 31.7, 53.1, 63.2, 0.25)),
            Row("table6_long", "+ twice the steps", (48.1, 32.6, 54.2, 65.6, 0.25)),
        ),
    ),
}
SAME_RUN = {"table3_c": "table2_c", "table5_r50": "table2_c"}  # rows that are other rows' runs


def print_table(pattern, number, output=None):
    """Prints a table of the paper with our figures; writes it as Markdown.

    Args:
        pattern: glob pattern of model_dirs.
        number: the table's number.
        output: path of the Markdown file; None: the Markdown is printed.

    Raises:
        ConfigError: none of the folders is a run, or none is scored.
    """
    lines = table_lines(number, scored_runs(files.expanded(pattern)))
    console = rich.console.Console(soft_wrap=True, highlight=False, markup=False, emoji=False)
    console.print(as_text(number, lines))
    markdown = as_markdown(number, lines)
    if output:
        files.write_text(files.expanded(output), markdown)
        console.print(f"written: {output}")
    else:
        print(markdown)


def scored_runs(pattern):
    """The finished runs among the folders of a glob pattern: {config.name: [metrics]}.

    Raises:
        ConfigError: none of the folders is a run, or none is scored.
    """
    folders = files.paths_matching(pattern)
    run_folders = [folder for folder in folders if (folder / "config.json").is_file()]
    if not run_folders:
        raise ConfigError(f"--model_dirs={pattern}: no run there; expected folders with a config.json")
    runs = {}
    for folder in run_folders:
        metrics = _read(folder / "eval" / "metrics.json")
        if metrics:
            metrics |= _read(folder / "eval" / "speed.json")
            runs.setdefault(config_lib.load(folder / "config.json").name, []).append(metrics)
    if not runs:
        raise ConfigError(
            f"--model_dirs={pattern}: none of {len(run_folders)} runs is scored; expected one at least"
        )
    return runs


def _read(path):
    """The object of a JSON file; {} before the file is written."""
    return files.read_json(path) if path.is_file() else {}


def table_lines(number, runs):
    """[heading, *lines] of a table as texts: for each row the paper's line, then ours.

    The work of others has no line of ours.

    Args:
        number: the table's number.
        runs: {config.name: [metrics]}, as `scored_runs` returns it. Several runs of a row are its
            seeds: mean and, in brackets, the standard deviation.
    """
    table = TABLES[number]
    lines = [["row", "whose", *(column.heading for column in table.columns)]]
    for row in table.rows:
        published = zip(table.columns, row.published)
        numbers = ["-" if value is None else f"{value:.{column.digits}f}" for column, value in published]
        lines.append([row.title, "paper", *numbers])
        if not row.name:
            continue
        seeds = runs.get(row.name) or runs.get(SAME_RUN.get(row.name), [])
        count = f"{len(seeds)} run{'s' if len(seeds) > 1 else ''}" if seeds else "none"
        lines.append(["", f"ours, {count}", *(_mean(column, seeds) for column in table.columns)])
    return lines


def _mean(column, seeds):
    """The mean over the runs that have a number, with its spread."""
    values = [metrics.get(column.key) for metrics in seeds]
    values = [column.scale * value for value in values if value is not None and value >= 0]
    if not values:
        return "-"
    spread = f" ({statistics.stdev(values):.{column.digits}f})" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.{column.digits}f}{spread}"


def as_text(number, lines):
    """The rich table of `table_lines`."""
    table = rich.table.Table(*lines[0], title=TABLES[number].title, box=rich.box.SIMPLE)
    for row in lines[1:]:
        table.add_row(*row)
    return table


def as_markdown(number, lines):
    """The Markdown of `table_lines`."""
    rule = ["---"] * len(lines[0])
    rows = "\n".join(f"| {' | '.join(row)} |" for row in [lines[0], rule, *lines[1:]])
    return f"**{TABLES[number].title}**\n\n{rows}\n"
