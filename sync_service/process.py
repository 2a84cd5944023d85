"""Ends a process with the one that started it, even when that one is killed and can say nothing."""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def die_with_parent(how: signal.Signals = signal.SIGTERM) -> None:
    """Have the kernel send `how` to this process when its parent's thread ends. Elsewhere than on Linux: nothing.

    Harmless in a process that a shell or a supervisor started: the parent outlives it, or meant its end.
    """
    if sys.platform == "linux":
        parent = os.getppid()
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, how)
        # The parent may have gone between its fork and this line.
        if os.getppid() != parent:
            os.kill(os.getpid(), how)
