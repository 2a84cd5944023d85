"""End a child process together with its parent, also when the parent is killed by SIGKILL."""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def die_with_parent(how: signal.Signals = signal.SIGTERM) -> None:
    """Have the kernel send the signal `how` to this process when its parent's thread ends (Linux only).

    It does no harm in a process that a shell or a supervisor started: such a parent lives longer than the process, or
    its end is meant to end the process too.
    """
    if sys.platform == "linux":
        parent = os.getppid()
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, how)
        # The parent may have ended between the fork and prctl; the kernel then sends no signal.
        if os.getppid() != parent:
            os.kill(os.getpid(), how)
