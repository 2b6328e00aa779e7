"""Keeps native code off stderr."""

import os
import sys


def silence_native_stderr() -> None:
    """Sends file descriptor 2 nowhere from now on, and keeps `sys.stderr` as it was.

    TensorFlow logs its start-up before its own log level applies (tensorflow/tensorflow#100442), and its
    decoders log every damaged image, which we report by name.
    """
    sys.stderr.flush()
    # Whatever a name holds can be told, as on Python's own stderr.
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1, errors="backslashreplace")
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
