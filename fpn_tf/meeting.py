"""How the workers of a cluster find each other: each waits, in words, until it can reach all the others."""

import contextlib
import signal
import socket
import threading
import time

from absl import logging

from fpn_tf.errors import ClusterError

PATIENCE = 10  # seconds before a run says, and says again where it changes, for which workers it waits
TICK = 0.2  # seconds between two tries to reach them


def meet(addresses, number):
    """Returns when all workers of a cluster can be reached; says after a while for whom it waits.

    TensorFlow would wait without a word, deaf to every signal. A worker listens at its address while it
    is here, as TensorFlow does from then on.

    Args:
        addresses: "host:port" of the workers in their order.
        number: of this worker.

    Raises:
        ClusterError: another program listens at this worker's address.
    """
    absent = [address for i, address in enumerate(addresses) if i != number]
    start, last_note = time.monotonic(), None
    patience = PATIENCE
    with _listening(addresses[number]):
        while absent := [address for address in absent if not _listens(address)]:
            if time.monotonic() - start > patience:
                note = f"waiting for {len(absent)} of {len(addresses)} workers ({', '.join(absent)})"
                if note != last_note:
                    logging.warning("%s", note)
                last_note, patience = note, patience + PATIENCE
            time.sleep(TICK)


@contextlib.contextmanager
def _listening(address):
    """A context in which others can connect to a port of this machine, though nobody answers them."""
    port = _host_and_port(address)[1]
    family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
    try:
        server = socket.create_server(
            ("", port), family=family, backlog=128, dualstack_ipv6=family == socket.AF_INET6
        )
    except OSError as error:
        raise ClusterError(
            f"{address}: this worker cannot listen there ({error.strerror}); expected a free port"
        ) from None
    with server:
        yield


def _listens(address):
    """Whether something takes connections at "host:port"."""
    try:
        with socket.create_connection(_host_and_port(address), timeout=1):
            return True
    except OSError:
        return False


def _host_and_port(address):
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise ClusterError(f"{address}: is no address of a worker; expected host:port")
    return host.strip("[]"), int(port)


@contextlib.contextmanager
def sigterm_kept():
    """A context at whose end SIGTERM goes where it went before: TensorFlow's cluster takes it for itself."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Python sets signals in the main thread alone
        return
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if handler is not None:
            signal.signal(signal.SIGTERM, handler)
