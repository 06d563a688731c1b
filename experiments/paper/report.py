"""Prints a table of the paper with the figures of our runs below the published ones.

    python -m experiments.paper.report --model_dirs='runs/paper/*' --table=2

Prints the table as text and as Markdown; `--output=FILE` writes the Markdown instead.
"""

import sys

from absl import app, flags

from experiments.paper.tables import print_table
from fpn_tf.command_flags import MODEL_DIRS, OUTPUT, TABLE, run_program
from fpn_tf.errors import UserError

for name in ("model_dirs", "table", "output"):
    flags.declare_key_flag(name)  # --help lists them


def main(arguments):
    if len(arguments) > 1:
        raise app.UsageError(f"unexpected: {' '.join(arguments[1:])}")
    if not (MODEL_DIRS.value and TABLE.value):
        raise app.UsageError("expected --model_dirs=GLOB and --table=1..6")
    try:
        print_table(MODEL_DIRS.value, TABLE.value, OUTPUT.value)
    except UserError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    run_program(main)
