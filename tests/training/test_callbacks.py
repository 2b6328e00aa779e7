"""What is called around the steps of a run."""

import os
import signal

import pytest

from tfmdl.training.callbacks import sigterm


def test_sigterm_is_noted_while_it_lasts():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyError), sigterm() as terminated:
        assert not terminated()
        os.kill(os.getpid(), signal.SIGTERM)
        assert terminated()
        raise KeyError
    assert signal.getsignal(signal.SIGTERM) is before
