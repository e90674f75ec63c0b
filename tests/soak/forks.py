"""Do something in a fork of this process, which may be killed there."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable


def fork(work: Callable[[], None]) -> int:
    """Do something in a fork of this process and return its exit code, negative for a signal."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
