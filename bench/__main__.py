"""`python -m bench`: every benchmark that runs on a CPU, one after the other."""

from __future__ import annotations

from bench import backends, hop, pipeline

if __name__ == "__main__":
    hop.main()
    pipeline.main()
    backends.main()
