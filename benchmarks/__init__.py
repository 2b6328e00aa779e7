"""Side-by-side measurements of speed: `make bench`, or `python -m benchmarks.train_step` and so on."""
