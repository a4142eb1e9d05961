"""What holds for all tests."""

from __future__ import annotations

from hypothesis import settings

# Nothing is timed in a test: a busy machine is not a failure.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
