"""Ctrl-C, SIGTERM and SIGHUP: what ends a program, and what lets it finish something before.

`raised` has a signal end the work at once, by an exception that unwinds it; `noted` has it wait for the
work inside to ask. Each lasts as long as its context, and they nest.
"""

import contextlib
import signal
import threading
import time

from fpn_tf.errors import InterruptedRunError

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
ANSWER_SECONDS = 1.0  # a scheduler sends a signal several times; the first is being answered that long


class Interrupt(KeyboardInterrupt):
    """A signal that ends the program.

    Attributes:
        number: of the signal.
    """

    def __init__(self, number):
        super().__init__(number)
        self.number = signal.Signals(number)


@contextlib.contextmanager
def raised():
    """A context in which SIGINT, SIGTERM and SIGHUP raise Interrupt.

    Where somebody else's code swallows it, or stumbles over it, it is raised at the end of the context.
    """
    caught, times = [], []

    def interrupt(number, frame):
        is_repeated = bool(times) and time.monotonic() - times[-1] < ANSWER_SECONDS
        caught.append(number)
        times.append(time.monotonic())
        if not is_repeated:
            raise Interrupt(number)

    with _handled_by(interrupt):
        try:
            yield
        except InterruptedRunError:  # somebody has made a message of it
            raise
        except Exception:
            if not caught:
                raise
        if caught:
            raise Interrupt(caught[0])


@contextlib.contextmanager
def delayed():
    """A context at whose end SIGINT, SIGTERM and SIGHUP raise Interrupt: for what must not be cut in two."""
    with noted() as caught:
        yield
    if caught:
        raise Interrupt(caught[0])


@contextlib.contextmanager
def noted():
    """Yields a list that fills with the numbers of SIGINT, SIGTERM and SIGHUP, which end nothing then.

    A second Ctrl-C raises KeyboardInterrupt at once.
    """
    caught = []

    def note(number, frame):
        if number == signal.SIGINT and number in caught:
            raise KeyboardInterrupt
        caught.append(signal.Signals(number))

    with _handled_by(note):
        yield caught


@contextlib.contextmanager
def _handled_by(handler):
    """A context in which a function handles the signals, but for those that are ignored, as under nohup."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Python delivers signals to the main thread alone
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    handled = [number for number in SIGNALS if before[number] not in (signal.SIG_IGN, None)]
    try:
        for number in handled:
            signal.signal(number, handler)
        yield
    finally:
        for number in handled:
            signal.signal(number, before[number])
