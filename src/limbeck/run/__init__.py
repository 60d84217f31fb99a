"""The road from a config to a run folder: ``opening``, ``teacher``, ``training`` and ``folder``."""
