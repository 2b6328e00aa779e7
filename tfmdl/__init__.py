"""One image classifier for many visual domains, in Keras 3 and TensorFlow."""

import os

# TensorFlow logs its start-up from C++, before any Python setting could reach it. What a user has set stays.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# TensorFlow leaves oneDNN off on processors without AVX-512; it makes a training step two to three times faster there.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

__version__ = "0.1.0"
