"""`python -m stagemesh`: the same as the `stagemesh` command."""

from __future__ import annotations

import sys

from stagemesh.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
