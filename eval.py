"""Evaluates runs: what `python eval.py` starts is `tfmdl.evaluation.__main__`."""

from tfmdl.evaluation.__main__ import run

if __name__ == "__main__":
    run()
