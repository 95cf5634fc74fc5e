"""What this plugin offers, through the kit: every fourth case of each routine, and all of them in the long run."""

import pytest
import softneuro_cpu_numba

from softneuro_core.testing import conformance

test_conformance = conformance(softneuro_cpu_numba, every=4)
test_complete_conformance = pytest.mark.long(conformance(softneuro_cpu_numba))
