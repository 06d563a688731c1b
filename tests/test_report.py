"""The paper's tables with our figures."""

import json
import subprocess
import sys

import pytest
from commands import ROOT

from experiments.paper import tables
from fpn_tf import config
from fpn_tf.errors import ConfigError


def make_run(folder, name, **metrics):
    config.save(config.replace(config.Config(), name=name), folder / "config.json")
    if metrics:
        (folder / "eval").mkdir()
        (folder / "eval" / "metrics.json").write_text(json.dumps(metrics))


def test_means_of_the_seeds_stand_below_the_published_row(tmp_path):
    make_run(tmp_path / "0", "table2_c", AP=0.3, AP50=0.5, AP_small=0.1, AP_medium=0.2, AP_large=-1)
    make_run(tmp_path / "1", "table2_c", AP=0.4, AP50=0.6, AP_small=0.1, AP_medium=0.2, AP_large=-1)
    make_run(tmp_path / "2", "table2_d")  # not scored yet
    (tmp_path / "other").mkdir()
    lines = tables.table_lines(2, tables.scored_runs(str(tmp_path / "*")))
    assert lines[0] == ["row", "whose", "AP@.5", "AP", "APs", "APm", "APl"]
    at = next(i for i, line in enumerate(lines) if line[0] == "(c) FPN")
    assert lines[at][1:] == ["paper", "56.9", "33.9", "17.8", "37.7", "45.8"]
    assert lines[at + 1] == ["", "ours, 2 runs", "55.0 (7.1)", "35.0 (7.1)", "10.0 (0.0)", "20.0 (0.0)", "-"]
    assert lines[at + 3] == ["", "ours, none", *"-----"]
    assert len(lines) == 1 + 2 * 6
    shared = tables.table_lines(3, tables.scored_runs(str(tmp_path / "*")))
    whose = [line[1] for line in shared[1:]]
    assert whose == ["paper", *["paper", "ours, none"] * 2, "paper", "ours, 2 runs"]
    assert shared[-1][1:4] == ["ours, 2 runs", "55.0 (7.1)", "35.0 (7.1)"]  # the same run in the paper


def test_times_are_no_percentages(tmp_path):
    for seed, seconds in enumerate((0.5, 0.75, None)):  # None: one batch, whose time is not known
        make_run(tmp_path / f"{seed}", "table6_dual", AR1000=0.5)
        (tmp_path / f"{seed}" / "eval" / "speed.json").write_text(json.dumps({"seconds_per_photo": seconds}))
    lines = tables.table_lines(6, tables.scored_runs(str(tmp_path / "*")))
    at = next(i for i, line in enumerate(lines) if line[0] == "FPN, MLPs 5x5 and 7x7")
    assert lines[at][1:] == ["paper", "45.7", "31.9", "51.5", "60.8", "0.24"]
    assert lines[at + 1] == ["", "ours, 3 runs", "50.0 (0.0)", "-", "-", "-", "0.62 (0.18)"]


def test_text_and_markdown(tmp_path, main_here):
    make_run(tmp_path / "run", "table1_c", AR100=0.25, AR1000=0.5, AR1000_small=0.4)
    lines = tables.table_lines(1, tables.scored_runs(str(tmp_path / "*")))
    markdown = tables.as_markdown(1, lines)
    assert "| (c) FPN | paper | 44.0 | 56.3 | 44.9 | 63.4 | 66.2 |" in markdown
    assert "|  | ours, 1 run | 25.0 | 50.0 | 40.0 | - | - |" in markdown
    output = tmp_path / "table.md"
    flags = [f"--model_dirs={tmp_path}/*", "--table=1", f"--output={output}"]
    status, out, err = main_here("--mode=report", *flags)
    assert status == 0
    assert output.read_text() == markdown
    assert "ours, 1 run" in out
    assert err == "note: --mode=report goes; `python -m experiments.paper.report` prints it\n"
    output.unlink()
    command = [sys.executable, "-m", "experiments.paper.report", *flags]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert output.read_text() == markdown
    assert (done.stdout, done.stderr) == (out, "")


def test_nothing_to_report_is_one_line(tmp_path, main_here):
    with pytest.raises(ConfigError, match="no run there"):
        tables.scored_runs(str(tmp_path / "*"))
    make_run(tmp_path / "run", "table1_c")
    with pytest.raises(ConfigError, match="none of 1 runs is scored"):
        tables.scored_runs(str(tmp_path / "*"))
    status, _, err = main_here("--mode=report", "--table=1")
    assert (status, err.strip()) == (1, "error: --mode=report: expected --model_dirs=GLOB and --table=1..6")


def test_every_row_of_a_table_is_an_experiment():
    import importlib

    for number, table in tables.TABLES.items():
        for row in table.rows:
            assert len(row.published) == len(table.columns)
            if not row.name:  # others' work
                continue
            settings = importlib.import_module(f"experiments.paper.{row.name}").get_config()
            assert settings.validate().name == row.name
            assert row.name.startswith(f"table{number}")
