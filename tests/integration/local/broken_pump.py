"""A pump that ends at once."""

import sys

sys.exit("the pump is out of order")
