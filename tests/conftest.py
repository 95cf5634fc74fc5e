"""Settings every test shares: hypothesis without a stopwatch (machines are shared) and with fixed examples."""

from hypothesis import settings

settings.register_profile("softneuro", deadline=None, derandomize=True)
settings.load_profile("softneuro")
