import softneuro_hello

from softneuro_core.testing import conformance

test_conformance = conformance(softneuro_hello)
