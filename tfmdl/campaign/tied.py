"""Runs Python so that it gets SIGTERM when the process that started it is gone, however that ended, SIGKILL included.

    python -m tfmdl.campaign.tied PID -m MODULE [ARGUMENTS]

PID is the process that starts this, and is gone already if it is not the parent. Where the system has no such tie, as
macOS, the process goes on alone.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # of <linux/prctl.h>; what is set stays set for the program that takes this one's place


def run():
    parent, *command = sys.argv[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(parent):
        sys.exit(128 + signal.SIGTERM)
    os.execv(sys.executable, [sys.executable, *command])


if __name__ == "__main__":
    run()
