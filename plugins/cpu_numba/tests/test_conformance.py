import softneuro_cpu_numba

from softneuro_core.testing import conformance

test_conformance = conformance(softneuro_cpu_numba)
