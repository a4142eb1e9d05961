"""What holds for all tests."""

from __future__ import annotations

import os

from hypothesis import settings

# As the infer service does before it loads torch: workers and services share the cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# Nothing is timed in a test: a busy machine is not a failure.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
