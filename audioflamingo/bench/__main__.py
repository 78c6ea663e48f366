"""`python -m audioflamingo.bench`."""

import sys

from audioflamingo.bench.command import main

if __name__ == "__main__":
    sys.exit(main())
