"""What holds for all tests."""

from __future__ import annotations

import os

from hypothesis import settings

# Before torch is loaded, here and in services: many processes share the cores, and threads that spin take them away.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# Nothing is timed in a test: a busy machine is not a failure.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
