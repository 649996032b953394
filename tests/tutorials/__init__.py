"""The tutorials run as they are committed. `python -m tests.tutorials` runs them again and writes their outputs."""
