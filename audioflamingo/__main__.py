"""`python -m audioflamingo` is `flamingo`."""

import sys

from audioflamingo.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
