"""What every test starts from: the plugins that compute on this CPU.

Each test that tunes would else measure OpenCL's routines too, and hold for machines without a device
only. OpenCL's own tests name their plugin.
"""

import os

os.environ.setdefault("SOFTNEURO_DISABLE_PLUGINS", "opencl")
