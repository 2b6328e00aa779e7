"""Imports TensorFlow without its start-up chatter: entry points import this before anything else.

TensorFlow logs from C++ before it has read its own log level (TF_CPP_MIN_LOG_LEVEL), so the file descriptor is put
aside while it starts. Lines that are not its log's are written out again. It takes seconds, in which no command has
begun yet: SIGINT ends the process with one line, as `tfmdl.cli` does later.
"""

import os
import re
import signal
import sys
import tempfile

_CHATTER = re.compile(
    rb"WARNING: All log messages before absl|([IWE]\d{4} |\d{4}-\d\d-\d\d )\d|To enable the following instructions"
)


def _import_tensorflow():
    import tensorflow as tf

    tf.config.list_physical_devices()  # looks for CUDA, loudly where there is none
    # It warns of functions that are traced again and again: each network has its own, and commands have many.
    tf.get_logger().setLevel("ERROR")


def _import_quietly():
    sys.stderr.flush()
    real = os.dup(2)
    with tempfile.TemporaryFile() as aside:
        os.dup2(aside.fileno(), 2)
        try:
            _import_tensorflow()
        finally:
            os.dup2(real, 2)
            os.close(real)
            aside.seek(0)
            for line in aside:
                if not _CHATTER.match(line):
                    os.write(2, line)


if "tensorflow" not in sys.modules:
    try:
        _import_quietly()
    except KeyboardInterrupt as interrupt:
        if type(interrupt) is not KeyboardInterrupt:  # of a command that has begun, and says it itself
            raise
        print("interrupted by SIGINT; type the same command again", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
