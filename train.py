"""Trains a trunk, or adds a domain to one: what `python train.py` starts is `tfmdl.training.__main__`."""

from tfmdl.training.__main__ import run

if __name__ == "__main__":
    run()
