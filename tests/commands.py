"""`python main.py` as a user types it, in processes of its own, with a detector that takes seconds."""

import json
import os
import pathlib
import socket
import subprocess
import sys

ROOT = pathlib.Path(__file__).parent.parent
SMALL = """
model.backbone=resnet_tiny model.norm=group_norm model.frozen_stages=0 model.neck_channels=16
model.num_classes=0 model.rpn.anchor_sizes=8,16,32,64,96 model.rpn.samples=32 model.rpn.pre_nms_train=64
model.rpn.pre_nms_test=48 model.rpn.post_nms_train=40 model.rpn.post_nms_test=32 model.roi.samples=16
model.roi.canonical_size=56 model.roi.hidden_units=32 data.short_side=64 data.max_side=96
data.max_bad_fraction=0.5 train.steps=4 train.batch_size=2 train.log_every=2 train.checkpoint_every=2
train.warmup_steps=2 train.learning_rate=0.01 eval.batch_size=2 eval.score_threshold=0 eval.pictures=2
""".split()


def command(mode, model_dir):
    """The flags of a run of COCO's settings, which SMALL and the folder of a data set make one of seconds."""
    return f"--mode={mode}", "--experiment=coco_r50_fpn_1x", f"--model_dir={model_dir}"


def start(*arguments, overrides=(), **environment):
    """A running `main.py`."""
    flags = [f"--params_override={o}" for o in overrides]
    return subprocess.Popen(
        [sys.executable, "main.py", *arguments, *flags],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    )


def ended(process):
    """Waits. Returns: (exit status, standard output, standard error)."""
    try:
        told = process.communicate(timeout=500)
    finally:
        process.kill()
    return process.returncode, *told


def main(*arguments, overrides=(), **environment):
    """A finished `main.py`: (exit status, standard output, standard error)."""
    return ended(start(*arguments, overrides=overrides, **environment))


def start_workers(count, *arguments, overrides=(), overrides_of=None):
    """As many running `main.py` that know of each other; some with `overrides_of` of their own, by number."""
    clusters, more = cluster_texts(count), overrides_of or {}
    return [
        start(*arguments, overrides=[*overrides, *more.get(i, ())], TF_CONFIG=text)
        for i, text in enumerate(clusters)
    ]


def cluster_texts(count):
    """The TF_CONFIG of each of so many workers on this machine."""
    sockets = [socket.create_server(("localhost", 0)) for _ in range(count)]
    workers = [f"localhost:{s.getsockname()[1]}" for s in sockets]
    for s in sockets:
        s.close()

    def cluster(index):
        return json.dumps({"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}})

    return [cluster(i) for i in range(count)]


def start_slurm_tasks(count, *arguments, overrides=()):
    """The same, as `srun` would start them on this machine."""
    step = {
        "SLURM_STEP_NUM_TASKS": str(count),
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_STEP_TASKS_PER_NODE": str(count),
    }
    return [start(*arguments, overrides=overrides, **step, SLURM_PROCID=str(i)) for i in range(count)]
