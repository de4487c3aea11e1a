"""Known detectors: what they are, how to get one, and which one fits a label set."""
