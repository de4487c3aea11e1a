"""The stacks of one environment: data, compute, pipeline, monitoring."""
