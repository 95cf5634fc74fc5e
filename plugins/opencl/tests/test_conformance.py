"""What this plugin offers, through the kit: every eighth case of each routine, and all of them in the long run."""

import pytest
import softneuro_opencl

from softneuro_core.testing import conformance

test_conformance = conformance(softneuro_opencl, every=8)
test_complete_conformance = pytest.mark.long(conformance(softneuro_opencl))
