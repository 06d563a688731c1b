"""What a user can put right: every such mistake is a UserError, told in one line."""

import signal


class UserError(ValueError):
    """What a user can put right: the message names the file or key, the value, and what was expected.

    Example:

    >>> try:
    ...     fpn_tf.load("lost.pth")
    ... except fpn_tf.UserError as error:
    ...     print(error)
    lost.pth: No such file or directory; expected a file of weights
    """


class ConfigError(UserError):
    """A mistake in the configuration.

    Example:

    >>> fpn_tf.TrainConfig(steps=0).validate()
    Traceback (most recent call last):
    fpn_tf.errors.ConfigError: train.steps=0: expected at least 1
    """


class DataError(UserError):
    """Something is wrong with a data set or one of its files."""


class PhotoError(UserError):
    """A file that cannot be read as a photo."""


class WeightsError(UserError):
    """A weights file that does not fit the network."""


class CheckpointError(UserError):
    """A checkpoint that cannot be used."""


class NonFiniteLossError(UserError):
    """The loss is no longer a number."""


class InterruptedRunError(UserError):
    """Ctrl-C, SIGTERM or SIGHUP: the run was saved and can go on from here.

    Args:
        message: one line.
        number: of the signal.

    Attributes:
        exit_status: of a program that the signal ends, as shells tell it: 130 for Ctrl-C, 143 for SIGTERM.
    """

    def __init__(self, message, number=signal.SIGTERM):
        super().__init__(message)
        self.exit_status = 128 + number


class ClusterError(UserError):
    """The processes of a run do not find each other, or one of them has gone."""
