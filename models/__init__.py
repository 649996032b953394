"""Applications of recurrent networks that run as programs: `python -m models.NAME --help`."""
