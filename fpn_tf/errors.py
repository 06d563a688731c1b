"""What a user can put right: every such mistake is a UserError, told in one line."""


class UserError(ValueError):
    """The message names the file or key, the value, and what was expected."""


class ConfigError(UserError):
    """A mistake in the configuration."""


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
    """Ctrl-C or SIGTERM: the run was saved and can go on from here."""


class ClusterError(UserError):
    """The processes of a run do not find each other, or one of them has gone."""
