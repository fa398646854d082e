"""Kernels that numba compiles, where it is installed: the same to the last bit as what they stand in for, in less time.

They run outside of Python's lock, so that decoding goes on beside them. Each is called by the function whose work it
does, which does it with torch or numpy where numba is missing.
"""
