"""Prints a table of the paper with the figures of our runs below the published ones.

    python -m experiments.paper.report --model_dirs='runs/paper/*' --table=2

Prints the table as text and as Markdown; `--output=FILE` writes the Markdown instead.
"""

import sys

from absl import app, flags

from experiments.paper.tables import print_table
from fpn_tf.errors import UserError

MODEL_DIRS = flags.DEFINE_string(
    "model_dirs", None, "The folders of the runs, as a glob pattern.", required=True
)
TABLE = flags.DEFINE_integer("table", None, "The number of the paper's table.", 1, 6, required=True)
OUTPUT = flags.DEFINE_string("output", None, "The path of the Markdown file to write.")


def main(arguments):
    if len(arguments) > 1:
        raise app.UsageError(f"unexpected: {' '.join(arguments[1:])}")
    try:
        print_table(MODEL_DIRS.value, TABLE.value, OUTPUT.value)
    except UserError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    app.run(main)
