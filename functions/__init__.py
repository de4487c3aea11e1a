"""The deployed functions: one folder per function, each with a thin handler around `boxdrop.pipeline`."""
