"""What this plugin offers, through the kit."""

import softneuro_qint8

from softneuro_core.testing import conformance

test_conformance = conformance(softneuro_qint8)
