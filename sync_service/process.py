"""Settings of this process: its end together with its parent, and its garbage collection."""

import ctypes
import gc
import os
import signal
import sys
from multiprocessing import parent_process

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def die_with_parent(how: signal.Signals = signal.SIGTERM) -> None:
    """Have the kernel send the signal `how` to this process when its parent's thread ends (Linux only).

    It does no harm in a process that a shell or a supervisor started: such a parent lives longer than the process, or
    its end is meant to end the process too.
    """
    if sys.platform == "linux":
        parent = os.getppid()
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, how)
        # The parent may have ended before; the kernel then sends no signal. A server process is started by
        # multiprocessing, and imports for a second before it comes here.
        starter = parent_process()
        if os.getppid() != parent or (starter and not starter.is_alive()):
            os.kill(os.getpid(), how)


def limit_garbage_collection() -> None:
    """Collect garbage seldom from now on, and never the objects that exist now.

    Imports, requests and pages create almost no reference cycles. With Python's default threshold of 700 objects,
    garbage collection took a sixth of all the time.
    """
    gc.freeze()
    gc.set_threshold(50_000)
