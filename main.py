"""Trains, evaluates, shows and exports detectors. `python main.py --help` lists the flags."""

from absl import app, flags

from fpn_tf import command

flags.adopt_module_key_flags(command)  # --help lists them
main = command.main

if __name__ == "__main__":
    app.run(main)
