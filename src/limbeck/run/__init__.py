"""From a config to a run folder: ``opening`` checks, ``teacher`` and ``training`` train, ``folder`` knows the files.

This room is not public: the commands use it. It may import every room except ``commands``.
"""
