"""Names, paths and notes are the user's: they appear as they are, whatever brackets they hold."""

import pathlib

import pytest
import rich.table

from experiments.paper import tables
from fpn_tf import inspection
from fpn_tf.data.survey import Finding, Histogram, Survey
from fpn_tf.modes.scoring import print_metrics
from fpn_tf.training import progress

NAMES = ["[/b]", "car [rear]", "[red]", "[link=x]y[/link]", ":car:", "a\\[b]", "{x}", "%s", "[[", "größe"]


def test_metrics_by_class(capsys):
    per_class = {name: number / 100 for number, name in enumerate(NAMES)}
    print_metrics({"AP": 0.5, "per_class": per_class, "step": 3})
    lines = capsys.readouterr().out.splitlines()
    for number, name in enumerate(NAMES):
        assert any(line.rstrip().endswith(f"{number / 100:.6f}") and f" {name} " in line for line in lines)


def test_a_survey():
    histogram = Histogram(("< 8", ">= 8"), (1, 2))
    counts = {name: number for number, name in enumerate(NAMES, start=1)}
    findings = [Finding("classes without a box", 2, tuple(NAMES[:2]))]
    survey = Survey(3, 5, 0, counts, histogram, histogram, histogram, histogram, {}, findings)
    with progress.console.capture() as captured:
        for table in inspection.tables(survey):
            progress.console.print(table)
        progress.console.print(f"note: {findings[0]}")
    text = captured.get()
    assert all(name in text for name in NAMES)
    assert "note: 2 classes without a box: [/b], car [rear]\n" in text


@pytest.mark.parametrize("path", ["runs/[/b]/x", "runs/:car:", "photo[1].png"])
def test_a_line_with_a_path(path):
    with progress.console.capture() as captured:
        progress.console.print(f"written: {pathlib.Path(path)}")
    assert captured.get() == f"written: {path}\n"


def test_the_progress_bar(monkeypatch):
    """Its texts have the names of losses in them, which a head of somebody's own gives."""
    monkeypatch.setattr(progress.console, "_force_terminal", True)
    bar, task = progress.progress_bar(10, 3, "[/train]")
    bar.update(task, status=progress.status({"[/b]_loss": 0.5, "total_loss": 1.0}, 0.1, 2.0))
    with progress.console.capture() as captured:
        progress.console.print(bar.get_renderable())
    assert "[/train]" in captured.get()
    assert "[/b]_loss 0.500" in captured.get()


def test_no_table_is_printed_as_markup(capsys, monkeypatch):
    monkeypatch.setattr(tables, "scored_runs", lambda pattern: {})
    monkeypatch.setattr(tables, "table_lines", lambda number, runs: [("[/b]", "AP"), ("[red]", "1")])
    monkeypatch.setattr(tables, "as_markdown", lambda number, lines: "")
    tables.print_table("runs/*", 1)
    assert "[/b]" in capsys.readouterr().out


def test_titles_and_headers():
    table = rich.table.Table("[/head]", title="[/title]")
    table.add_row("[/cell]")
    with progress.console.capture() as captured:
        progress.console.print(table)
    assert all(f"[/{part}]" in captured.get() for part in ("head", "title", "cell"))
