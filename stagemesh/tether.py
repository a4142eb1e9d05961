"""Run a command that the kernel kills when its parent dies: `python tether.py PARENT_PID COMMAND…`.

A parent killed with -9 can clean up nothing, so each child asks the kernel to end it
(PR_SET_PDEATHSIG, which survives exec) and then becomes the command. Asking here, in the child's own
main thread after exec, avoids running Python between fork and exec in a parent full of gRPC threads.
The kernel takes the thread that started the child for its parent: that thread must last as long as the child.
Linux only; elsewhere the command runs untethered.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def tether(parent: int) -> None:
    """Have this process killed once `parent` is gone; ends it at once where it already is."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    # The parent may have died before the request reached the kernel.
    if os.getppid() != parent:
        sys.exit(f"its parent {parent} is gone")


if __name__ == "__main__":
    tether(int(sys.argv[1]))
    os.execv(sys.argv[2], sys.argv[2:])
