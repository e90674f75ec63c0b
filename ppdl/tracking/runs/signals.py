"""Turn the signals that end a process into an exception, so that a run can still be marked as killed."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


class Killed(SystemExit):
    """The process was told to end; its exit status is 128 + the signal's number, as a shell reports it."""


@contextlib.contextmanager
def signals_raise() -> Iterator[None]:
    """Raise `Killed` in the body on SIGTERM or SIGHUP.

    A handler that someone else set, or a signal that is ignored (nohup), stays as it is; so do all of them outside the
    main thread, where Python allows none to be set. Only the first signal raises: a second one must not interrupt what
    the first one set off.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def raise_killed(number: int, _: FrameType | None) -> None:
        signal.signal(number, signal.SIG_IGN)
        raise Killed(128 + number)

    ours = [number for number in SIGNALS if signal.getsignal(number) == signal.SIG_DFL]
    for number in ours:
        signal.signal(number, raise_killed)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)
