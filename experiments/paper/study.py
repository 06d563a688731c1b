"""Runs rows of the paper's tables, each with the rows that it needs, and prints the tables.

    python -m experiments.paper.study --scale=small

is the whole small-scale study: Tables 1, 2, 3, 5 and 6 on the generated set `octaves`, three seeds
each, on a CPU. It goes on where it stopped. With COCO and GPUs:

    python -m experiments.paper.study --rows=table2_c --data_root=COCO

What is small is `SMALL` below, the same for every row.
"""

import os
import pathlib
import subprocess
import sys

from absl import app, flags

from experiments.paper import tables
from experiments.paper.recipes import EXPERIMENTS, ROWS, RUNS, config_of, needs
from fpn_tf import files
from fpn_tf.command_flags import OVERRIDES, run_program
from fpn_tf.errors import DataError

SMALL = {
    "data.tfds_name": "octaves",
    "data.train_annotations": "",
    "data.train_images": "",
    "data.eval_annotations": "",
    "data.eval_images": "",
    "data.short_side": 192,
    "data.max_side": 256,
    "model.num_classes": 0,
    "model.backbone": "resnet_tiny",
    "model.backbone_weights": "",
    "model.norm": "sync_bn",
    "model.frozen_stages": 0,
    "model.neck_channels": 48,
    "model.rpn.anchor_sizes": "16,32,64,128,256",
    "model.rpn.anchor_ratios": 1.0,
    "model.rpn.samples": 128,
    "model.roi.canonical_size": 112,
    "model.segment.canonical_size": 16,
    "model.segment.hidden_units": 128,
    "model.roi.hidden_units": 256,
    "model.roi.samples": 64,
    "train.batch_size": 4,
    "train.optimizer": "adamw",
    "train.learning_rate": 0.002,
    "train.weight_decay": 0.01,
    "train.clip_norm": 10.0,
    "train.schedule": "cosine",
    "train.warmup_steps": 50,
    "train.checkpoint_every": 500,
    "eval.batch_size": 8,
    "eval.pictures": 4,
}
SMALL_STEPS = 1000
SMALL_TABLES = ("table1", "table2", "table3", "table5_r50", "table6")
DISTINCT_ROWS = [row for row in ROWS if row not in tables.SAME_RUN]
SMALL_ROWS = [row for row in DISTINCT_ROWS if row.startswith(SMALL_TABLES)]

AGAIN = {"allow_override": True}  # a notebook may run this file a second time
NAMES = flags.DEFINE_list(
    "rows",
    None,
    f"The rows to run, of {', '.join(ROWS)}; by default all (small: {len(SMALL_ROWS)}).",
    **AGAIN,
)
SCALE = flags.DEFINE_enum(
    "scale", "paper", ("paper", "small"), "The size of a row: the paper's, or minutes.", **AGAIN
)
SEEDS = flags.DEFINE_list(
    "seeds", None, "The values of train.seed; by default 0 (small: 0, 1 and 2).", **AGAIN
)
DATA_ROOT = flags.DEFINE_string("data_root", "", "The folder that holds COCO.", **AGAIN)
FOLDER = flags.DEFINE_string(
    "folder", None, f"The runs' folder; by default {RUNS} (small: {RUNS}_small).", **AGAIN
)
flags.declare_key_flag("params_override")


def overrides_of(row, folder, seed):
    """{dotted key: value} that a row's run is given on the command line."""
    changes = {"data.root": DATA_ROOT.value, "train.seed": seed}
    config = config_of(row)
    if SCALE.value == "small":
        changes |= SMALL | {"train.steps": SMALL_STEPS * (2 if row == "table6_long" else 1)}
    for key in ("train", "eval"):
        path = getattr(config.data, f"{key}_proposals")
        if path:
            changes[f"data.{key}_proposals"] = path.replace(RUNS, str(folder), 1)
    if config.train.initial_model_dir:
        changes["train.initial_model_dir"] = config.train.initial_model_dir.replace(RUNS, str(folder), 1)
    return changes


def is_done(model_dir):
    """Whether a run is trained to its last step and scored."""
    try:
        steps = files.read_json(model_dir / "config.json")["train"]["steps"]
        return files.read_json(model_dir / "eval" / "metrics.json")["step"] == steps
    except (DataError, KeyError):
        return False


def main_py(*arguments):
    """Runs main.py in another process; ends the study where it fails."""
    root = EXPERIMENTS.parent
    print(f"\n$ main.py {' '.join(arguments[:3])}", flush=True)
    path = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
    status = subprocess.call(
        [sys.executable, str(root / "main.py"), *arguments], env=os.environ | {"PYTHONPATH": path}
    )
    if status:
        sys.exit(status)


def run(row, folder, seed):
    """Trains and scores a row in `folder`, after the rows that it needs."""
    model_dir = folder / row
    if is_done(model_dir):
        return
    for needed, splits in needs(row):
        run(needed, folder, seed)
        for split in splits:
            if not (folder / needed / "proposals" / f"{split}.npz").exists():
                main_py("--mode=propose", f"--model_dir={folder / needed}", f"--split={split}")
    changes = [f"--params_override={key}={value}" for key, value in overrides_of(row, folder, seed).items()]
    changes += [f"--params_override={text}" for text in OVERRIDES.value]
    main_py("--mode=train_and_eval", f"--experiment=paper/{row}", f"--model_dir={model_dir}", *changes)


def main(arguments):
    if len(arguments) > 1:
        raise app.UsageError(f"unexpected: {' '.join(arguments[1:])}")
    small = SCALE.value == "small"
    rows = NAMES.value or (SMALL_ROWS if small else DISTINCT_ROWS)
    unknown = sorted(set(rows) - set(ROWS))
    if unknown:
        raise app.UsageError(f"--rows={unknown[0]}: expected rows among {', '.join(ROWS)}")
    folder = pathlib.Path(FOLDER.value or (f"{RUNS}_small" if small else RUNS)).expanduser()
    for seed in map(int, SEEDS.value or ((0, 1, 2) if small else (0,))):
        for row in rows:
            run(row, folder / f"seed{seed}" if small else folder, seed)
    pattern = str(folder / "seed*" / "*") if small else str(folder / "*")
    for table in sorted({row.removeprefix("table")[0] for row in rows}):
        tables.print_table(pattern, int(table))


if __name__ == "__main__":
    run_program(main)
