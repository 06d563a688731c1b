"""Trains, evaluates, shows and exports detectors. `python -m fpn_tf --help` lists the flags."""

from absl import app, flags

from fpn_tf import command

if __name__ == "__main__":
    flags.adopt_module_key_flags(command)  # --help lists them
    app.run(command.main)
