"""`python -m bench`: every benchmark that runs on a CPU, one after the other."""

from __future__ import annotations

from bench import backends, hop, pipeline
from bench.processes import restart_with_allocator

if __name__ == "__main__":
    restart_with_allocator()
    hop.main()
    pipeline.main()
    backends.main()
