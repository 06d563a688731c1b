"""How the program ends: with an exit status and, unless that is 0, one line that says why."""

import errno
import os
import signal
import sys

from fpn_tf import interrupts
from fpn_tf.errors import InterruptedRunError, UserError

GONE = (errno.ENOENT, errno.ENOTDIR, errno.ESTALE)  # what system calls say of a folder that was removed


def status_of(work, model_dir):
    """Calls a function, and tells on standard error what ended it.

    Args:
        work: a function without arguments. SIGINT, SIGTERM and SIGHUP raise `interrupts.Interrupt` in it.
        model_dir: a function that returns the path of the run's folder.

    Returns:
        The exit status: 0; 1 where a user can put something right; 128 + its number after a signal, so
        that a scheduler can tell "start it again" from "it is wrong".
    """
    try:
        with interrupts.raised():
            work()
    except InterruptedRunError as error:
        print(f"stopped: {error}", file=sys.stderr)
        return error.exit_status
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        if error.errno is None:
            raise
        print(f"error: {line_of(error, model_dir())}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as error:
        number = error.number if isinstance(error, interrupts.Interrupt) else signal.SIGINT
        print(f"stopped by {number.name}; what was saved before is whole", file=sys.stderr)
        return 128 + number
    return 0


def line_of(error, model_dir):
    """What an OSError, which has an `errno`, says to a user.

    Args:
        error: OSError.
        model_dir: the path of the run's folder.
    """
    if error.errno in GONE and not os.path.isdir(model_dir):
        return f"{model_dir}: has gone while the program used it (removed, or its disk is no longer there)"
    return f"{error.filename or model_dir}: {error.strerror}; what was saved before is whole"
