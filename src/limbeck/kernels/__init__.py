"""How it is fast. Imports nothing above it: what a divergence is comes down as objects and functions.

``rows`` is the CPU's: rows in chunks that stay in cache, the gradient in the same sweep.
"""
