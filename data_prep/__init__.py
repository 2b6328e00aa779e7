"""Offline tools that turn images into the records that training reads."""

# Sets TensorFlow's log level, which must be done before any module here imports TensorFlow.
import tfmdl  # noqa: F401
