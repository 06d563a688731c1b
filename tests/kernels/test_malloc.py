import ctypes
import platform
import resource
import threading

import numpy as np
import pytest

from fpn_tf.kernels import malloc


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's malloc")
def test_freed_blocks_are_kept():
    faults = []

    def work():
        for _ in range(30):
            np.ones(6_000_000, np.uint8)
            faults.append(resource.getrusage(resource.RUSAGE_THREAD).ru_minflt)

    malloc.keep_freed()
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert (faults[-1] - faults[10]) / 19 < 100  # of the 1465 pages that a block has


def test_what_a_library_lacks_is_not_called(monkeypatch):
    called = []

    class Library:
        malloc = staticmethod(called.append)

    monkeypatch.setattr(ctypes, "CDLL", lambda name: Library)
    malloc.keep_freed()
    assert called == []
