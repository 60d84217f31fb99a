"""How it is fast. Imports nothing above it: what a divergence is comes down as objects and functions.

A kernel is a sweep over rows (``plan``): ``rows`` on a CPU, ``triton_rows`` on a GPU, ``sparse`` for a teacher known by a few
classes, ``sharded`` over several processes. ``function`` and ``linear`` make a node of the graph of any of them.
"""
