"""Small drawn domains, for trying the program out without downloading anything."""
