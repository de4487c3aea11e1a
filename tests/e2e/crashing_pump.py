"""The pump, whose functions die where the storm test says."""

import sys

from boxdrop.local.pump import main

if __name__ == "__main__":
    main(sys.argv[1:], (sys.executable, "-m", "tests.e2e.crashing_runtime"))
