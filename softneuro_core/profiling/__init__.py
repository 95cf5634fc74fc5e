"""Measures candidates fairly, resumably and in isolation (decisions 5 to 7).

``profile`` is the front door; ``keys`` names what is measured, ``values`` makes the inputs, ``measure`` times one
kernel, ``server`` and ``client`` are the two ends of the worker process.
"""
