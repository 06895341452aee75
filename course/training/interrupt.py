"""Ctrl-C that waits for the end of a step, so that what is kept is a state between two steps."""

import signal
import threading
from typing import Any


class Interrupt:
    """While in it, the first Ctrl-C only sets `asked`; the second one interrupts at once.

    Where somebody else handles Ctrl-C, or this is not the main thread, it changes nothing.
    """

    def __init__(self) -> None:
        self.asked = False

    def __enter__(self) -> "Interrupt":
        self._ours = (
            threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        )
        if self._ours:
            signal.signal(signal.SIGINT, self._ask)
        return self

    def _ask(self, *_: Any) -> None:
        self.asked = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def __exit__(self, *_: Any) -> None:
        if self._ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)
