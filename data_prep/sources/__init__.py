"""Where images come from. What each module's `open_source(config)` returns has `domains` and `plan(domain)`."""
