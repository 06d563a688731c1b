"""What glibc's malloc keeps and what it returns to the system. With another C library, nothing happens."""

import contextlib
import ctypes
import threading

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # parameters of mallopt(3)


def keep_freed():
    """Has malloc keep freed blocks for the next ones of their size.

    Only for speed: every batch is some megabytes, which the system would clear anew each time, a
    third of the input pipeline's work. For a program to call, not a library, and after TensorFlow
    is imported: what is set before has no effect.
    """
    _call("mallopt", MMAP_THRESHOLD, 2**25)  # the highest there is: larger blocks are still returned
    _call("mallopt", TRIM_THRESHOLD, 2**27)


def return_freed():
    """Returns what malloc has kept until now to the system."""
    _call("malloc_trim", 0)


@contextlib.contextmanager
def returning_freed():
    """Within the block, returns freed memory every few milliseconds, and in the end.

    For work that makes and frees large copies on several threads: malloc keeps what each has freed
    for that thread alone.
    """
    done = threading.Event()

    def again():
        while not done.wait(0.02):
            return_freed()

    helper = threading.Thread(target=again, daemon=True)
    helper.start()
    try:
        yield
    finally:
        done.set()
        helper.join()
        return_freed()


def _call(name, *arguments):
    function = getattr(ctypes.CDLL(None), name, None)
    if function is not None:
        function(*arguments)
