"""What a run tells its owner: a progress bar, train.jsonl and TensorBoard events."""

import json
import pathlib

import rich.console
import rich.progress
import tensorflow as tf

console = rich.console.Console(soft_wrap=True, highlight=False)

SHORT = {
    "rpn_objectness_loss": "rpn obj",
    "rpn_box_loss": "rpn box",
    "head_class_loss": "cls",
    "head_box_loss": "box",
}


def progress_bar(total, done, unit):
    """A rich progress bar with a `status` text field; none where the output is no terminal."""
    columns = (
        rich.progress.TextColumn("{task.description}"),
        rich.progress.BarColumn(bar_width=6),
        rich.progress.TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        rich.progress.TimeRemainingColumn(compact=True),
        rich.progress.TextColumn("{task.fields[status]}"),
    )
    bar = rich.progress.Progress(
        *columns, console=console, refresh_per_second=2, disable=not console.is_terminal
    )
    task = bar.add_task(unit, total=total, completed=done, status="")
    return bar, task


def status(losses, learning_rate, images_per_second):
    """Two lines that fit a terminal of 80 columns: total, learning rate, speed; the four losses."""
    total = f"loss {losses['total_loss']:.3f}  lr {learning_rate:.2g}  {images_per_second:.1f} images/s"
    return total + "\n" + "  ".join(f"{SHORT[name]} {losses[name]:.3f}" for name in SHORT)


class RunLog:
    """Appends a line per log step to train.jsonl and to TensorBoard's event files.

    Lines of steps after `first_step`, left by a run that was cut off, are dropped first.
    """

    def __init__(self, model_dir, first_step):
        folder = pathlib.Path(model_dir)
        self.path = folder / "train.jsonl"
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        kept = [line for line in lines if _step_of(line) is not None and _step_of(line) <= first_step]
        if kept != lines:
            self.path.write_text("".join(line + "\n" for line in kept))
        self.writer = tf.summary.create_file_writer(str(folder))

    def write(self, step, values):
        """Records `values` (name -> number) at `step`."""
        with open(self.path, "a") as file:
            file.write(json.dumps({"step": step} | values) + "\n")
        with self.writer.as_default(step):
            for name, value in values.items():
                tf.summary.scalar(name, value)
        self.writer.flush()


def _step_of(line):
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return None  # a line that was cut off in the middle
