"""Imports TensorFlow without its start-up chatter: entry points import this before anything else.

TensorFlow logs from C++ before it has read its own log level (TF_CPP_MIN_LOG_LEVEL), so the file descriptor is put
aside while it starts. Lines that are not its log's are written out again.
"""

import os
import re
import sys
import tempfile

_CHATTER = re.compile(rb"WARNING: All log messages before absl|[IWE]\d{4} \d|To enable the following instructions")


def _import_tensorflow():
    import tensorflow as tf

    tf.config.list_physical_devices()  # looks for CUDA, loudly where there is none


if "tensorflow" not in sys.modules:
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
