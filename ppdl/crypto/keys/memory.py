"""Keep the memory of a process that holds a private key out of files and out of other processes."""

import ctypes
import os
import resource
import sys

_PR_SET_DUMPABLE = 4


def forbid_core_dumps() -> None:
    """Let this process write no core dump and, on Linux, let no other process of the same user read its memory.

    For the rest of the process' life, and of its children as far as RLIMIT_CORE goes. A debugger or profiler can no longer attach, except
    as root. Swap and hibernation still write memory to disk, and root reads it: docs/security.md.

    Source: setrlimit(2), prctl(2) PR_SET_DUMPABLE, which also covers a core_pattern that pipes to a program and so ignores the limit.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error))
