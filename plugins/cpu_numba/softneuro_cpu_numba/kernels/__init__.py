"""Kernel sources: the only modules of this plugin that import numba. Loaded by ``native.address_of``."""
