"""Where images come from. Each module's `open_source(options)` returns a `Source`."""
