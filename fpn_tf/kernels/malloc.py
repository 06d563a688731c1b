"""What glibc's malloc keeps of freed memory. With another C library, nothing happens."""

import ctypes

from fpn_tf.kernels.choice import plain_is_asked_for

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # parameters of mallopt(3)


def keep_freed():
    """Has malloc keep freed blocks for the next ones of their size.

    For speed: every batch is some megabytes, which the system would clear anew each time, a
    third of the input pipeline's work. For a program to call, not a library, and after TensorFlow
    is imported: what is set before has no effect.
    """
    if plain_is_asked_for():
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(MMAP_THRESHOLD, 2**25)  # the highest there is: larger blocks are still returned
        mallopt(TRIM_THRESHOLD, 2**27)
