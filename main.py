"""Trains, evaluates, shows and exports detectors. `python main.py --help` lists the flags."""

from absl import flags

from fpn_tf import command, command_flags

for module in (command, command_flags):
    flags.adopt_module_key_flags(module)  # --help lists them
main = command.main

if __name__ == "__main__":
    command_flags.run_program(main)
