"""What is deployed: one folder a function, each a thin handler around `boxdrop.pipeline`."""
