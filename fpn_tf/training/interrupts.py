"""Ctrl-C and SIGTERM, which let a run save before it ends."""

import contextlib
import signal
import threading


@contextlib.contextmanager
def caught_signals():
    """Yields a list that fills with the names of SIGINT and SIGTERM instead of their dying.

    A second Ctrl-C dies at once.
    """
    caught = []
    if threading.current_thread() is not threading.main_thread():
        yield caught  # Python delivers signals to the main thread alone
        return

    def note(number, frame):
        if caught and number == signal.SIGINT:
            raise KeyboardInterrupt
        caught.append(signal.Signals(number).name)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
