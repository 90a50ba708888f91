"""The half of the harness that lives in a leg's own process.

It runs in the leg's environment, which may be old: everything in this folder keeps to the
standard library, NumPy and the syntax of Python 3.6, and imports nothing from its parent.
"""
