"""How far a run is: a progress bar, lines of text, train.jsonl and TensorBoard events."""

import collections
import contextlib
import datetime
import io
import itertools
import json
import os
import pathlib
import resource
import socket
import time

import numpy as np
import rich.console
import rich.progress
import tensorflow as tf
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from fpn_tf import files
from fpn_tf.evaluation.history import HELD_OUT

# Names, paths and notes are the user's: no `[b]` or `:car:` in them means anything to us.
console = rich.console.Console(soft_wrap=True, highlight=False, markup=False, emoji=False)

PICTURE_SIDE, PICTURE_QUALITY = 1024, 80  # of JPEGs in TensorBoard: the longer side in pixels
SHORT = {
    "rpn_objectness_loss": "rpn obj",
    "rpn_box_loss": "rpn box",
    "head_class_loss": "cls",
    "head_box_loss": "box",
    "segment_score_loss": "score",
    "segment_loss": "segment",
}


def progress_bar(total, done, unit):
    """A rich progress bar with a `status` text field; none where the output is no terminal."""
    columns = (
        rich.progress.TextColumn("{task.description}", markup=False),
        rich.progress.BarColumn(bar_width=6),
        rich.progress.TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        rich.progress.TimeRemainingColumn(compact=True),
        rich.progress.TextColumn("{task.fields[status]}", markup=False),  # names of losses are in it
    )
    bar = rich.progress.Progress(
        *columns, console=console, refresh_per_second=2, disable=not console.is_terminal
    )
    task = bar.add_task(unit, total=total, completed=done, status="")
    return bar, task


def status(losses, learning_rate, images_per_second):
    """Two lines that fit a terminal of 80 columns: total, learning rate, speed; the losses."""
    total = f"loss {losses['total_loss']:.3f}  lr {learning_rate:.2g}  {images_per_second:.1f} images/s"
    terms = {SHORT.get(name, name): value for name, value in losses.items() if name != "total_loss"}
    return total + "\n" + "  ".join(f"{name} {value:.3f}" for name, value in terms.items())


class Progress:
    """Shows and logs a run's steps: the bar, a line per log step, the log files, an early estimate.

    A context manager; the bar is shown while it lasts.

    Args:
        model_dir: of the run.
        settings: TrainConfig.
        first_step: steps taken before.
        writes: whether to write the log files (one worker does).
    """

    ESTIMATE_AFTER = 10  # steps; the first are slow

    def __init__(self, model_dir, settings, first_step, writes):
        self.settings, self.first_step = settings, first_step
        self.log = RunLog(model_dir, first_step) if writes else None
        self.bar, self.task = progress_bar(settings.steps, first_step, "train")
        self.losses, self.seconds, self.since = [], [], time.monotonic()
        self.recent = collections.deque(maxlen=self.ESTIMATE_AFTER // 2)  # seconds of the last steps

    def __enter__(self):
        self.bar.__enter__()
        return self

    def __exit__(self, *error):
        self.bar.__exit__(*error)

    def step(self, step, losses, learning_rate):
        """Notes a finished step.

        Args:
            step: counted from 1.
            losses: {name: float}.
            learning_rate: float.
        """
        settings, now = self.settings, time.monotonic()
        self.losses.append(losses)
        self.seconds.append(now - self.since)
        self.recent.append(now - self.since)
        self.since = now
        self.bar.update(self.task, completed=step)
        if step - self.first_step == self.ESTIMATE_AFTER and step < settings.steps:
            console.print(estimate(settings, step, float(np.median(self.recent))))
        if step % settings.log_every and step != settings.steps:
            return
        speed = settings.batch_size * len(self.seconds) / sum(self.seconds)
        means = {name: float(np.mean([each[name] for each in self.losses])) for name in losses}
        if self.log is not None:
            self.log.write(step, means | {"learning_rate": learning_rate, "images_per_second": speed})
        text = status(means, learning_rate, speed)
        self.bar.update(self.task, status=text)
        if not console.is_terminal:
            console.print(f"step {step}/{settings.steps}  {text}".replace("\n", "  "))
        self.losses, self.seconds = [], []

    @contextlib.contextmanager
    def paused(self):
        """A context whose time does not count as training."""
        before = time.monotonic()
        yield
        self.since += time.monotonic() - before


def estimate(settings, step, seconds):
    """A line of text: the time and memory that the rest of a run will need.

    Args:
        settings: TrainConfig.
        step: steps taken.
        seconds: of a step.
    """
    left = datetime.timedelta(seconds=round((settings.steps - step) * seconds))
    return (
        f"{settings.batch_size / seconds:.1f} images/s: {left} for the remaining "
        f"{settings.steps - step} steps; peak memory {peak_memory() / 2**30:.1f} GiB"
    )


def peak_memory():
    """The most bytes that the first GPU has held; without a GPU, that this process has."""
    if tf.config.list_logical_devices("GPU"):
        return tf.config.experimental.get_memory_info("GPU:0")["peak"]
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class RunLog:
    """Appends a line per log step to train.jsonl and to TensorBoard's event files.

    Lines of steps after `first_step`, left by a run that was cut off, are dropped first.
    """

    def __init__(self, model_dir, first_step):
        folder = pathlib.Path(model_dir)
        self.path = folder / "train.jsonl"
        logged = self.path.read_bytes() if self.path.exists() else b""
        kept = lines_to_step(logged, first_step)
        if kept != logged:
            files.write_bytes(self.path, kept)
        self.events = EventFile(folder)

    def write(self, step, values):
        """Records numbers at `step`, {name: number}; in TensorBoard under `loss/` or `train/`."""
        tags = {name: f"{'loss' if name.endswith('_loss') else 'train'}/{name}" for name in values}
        self._append(step, values, {tags[name]: value for name, value in values.items()})

    def write_metrics(self, step, metrics, losses):
        """Records an evaluation of the checkpoint of `step`; in TensorBoard under `eval/`.

        Args:
            step: int.
            metrics: {name: number}, and, where there are classes, "per_class": {class name: AP}.
            losses: {name: number}, on the held-out photos.
        """
        numbers = {name: value for name, value in metrics.items() if name not in ("per_class", "step")}
        classes = {f"AP/{name}": value for name, value in metrics.get("per_class", {}).items()}
        values = {name: metrics[name] for name in metrics if name != "step"} | {HELD_OUT: losses}
        scalars = numbers | classes | losses
        self._append(step, values, {f"eval/{name}": value for name, value in scalars.items()})

    def write_pictures(self, step, pictures):
        """Records pictures in TensorBoard, under `pictures/`.

        Args:
            step: int.
            pictures: {name: PIL.Image}.
        """
        images = {f"pictures/{name}": _summary_image(picture) for name, picture in pictures.items()}
        self._add_event(step, [Summary.Value(tag=tag, image=image) for tag, image in images.items()])

    def _append(self, step, values, scalars):
        """Writes a line of train.jsonl, and an event of TensorBoard's: {tag: number}."""
        with files.named_in_errors(self.path), open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step} | values) + "\n")
        self._add_event(step, [Summary.Value(tag=tag, simple_value=value) for tag, value in scalars.items()])

    def _add_event(self, step, values):
        self.events.add(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))


class EventFile:
    """A file of TensorBoard's events, each written at once.

    TensorBoard's own writer does it in a thread, whose errors are printed there and not raised.

    Args:
        folder: pathlib.Path.
    """

    numbers = itertools.count()

    def __init__(self, folder):
        names = "events.out.tfevents", f"{int(time.time()):010d}", socket.gethostname(), os.getpid()
        self.path = folder / ".".join(map(str, (*names, next(self.numbers))))
        self.add(Event(wall_time=time.time(), file_version="brain.Event:2"))

    def add(self, event):
        """Writes a TensorBoard Event. Raises: OSError, which names the file."""
        with files.named_in_errors(self.path), open(self.path, "ab") as file:
            RecordWriter(file).write(event.SerializeToString())


def lines_to_step(logged, last_step):
    """The lines of a train.jsonl up to a step; what is damaged or cut off is left out, or stands as U+FFFD.

    Args:
        logged: bytes of the file.
        last_step: int.

    Returns:
        bytes, in UTF-8.
    """
    lines = logged.decode(errors="replace").split("\n")
    steps = map(_step_of, lines)
    kept = [line for line, step in zip(lines, steps) if step is not None and step <= last_step]
    return "".join(line + "\n" for line in kept).encode()


def _summary_image(picture):
    """A PIL.Image as TensorBoard's, a JPEG of at most PICTURE_SIDE pixels."""
    picture, buffer = picture.copy(), io.BytesIO()
    picture.thumbnail((PICTURE_SIDE, PICTURE_SIDE))
    picture.save(buffer, "JPEG", quality=PICTURE_QUALITY)
    width, height = picture.size
    return Summary.Image(width=width, height=height, colorspace=3, encoded_image_string=buffer.getvalue())


def _step_of(line):
    """The step of a line of train.jsonl; None where it tells of none."""
    try:
        step = files.json_of(line.encode())["step"]
    except (ValueError, KeyError, TypeError):
        return None
    return step if type(step) is int else None
