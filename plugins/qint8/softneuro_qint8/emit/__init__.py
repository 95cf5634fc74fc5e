"""Kernels of 8-bit integers, written with cpu_numba's emitter. Imported only to compile what is not cached."""
