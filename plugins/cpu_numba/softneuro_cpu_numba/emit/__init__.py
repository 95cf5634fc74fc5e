"""Kernels written as LLVM vector IR: one small emitter, an ISA table, and parameterised kernels on top of them.

A kernel module here exports factories marked :func:`softneuro_cpu_numba.native.emitted`; everything else about a
kernel (its disk cache, address, arguments) is that module's. Needs llvmlite, never numba.
"""
