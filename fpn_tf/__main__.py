"""Trains, evaluates, shows and exports detectors. `python -m fpn_tf --help` lists the flags."""

from absl import flags

from fpn_tf import command, command_flags

if __name__ == "__main__":
    for module in (command, command_flags):
        flags.adopt_module_key_flags(module)  # --help lists them
    command_flags.run_program(command.main)
