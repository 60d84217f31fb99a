"""From a config to a run folder: the one look before training, the training, and the files that are left.

``opening`` looks at a run and says every fault (``faults``); ``first_batch`` runs a model on a real batch, ``classes`` and
``inputs`` compare a teacher with the data; ``plan`` says what the run is going to do. ``teacher`` and ``training`` train, and
``folder`` knows the files. This room is not public: the commands use it. It may import
every room except ``inference``, ``export`` and ``commands``.
"""
