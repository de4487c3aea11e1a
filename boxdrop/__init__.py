"""Drop images in a bucket, get boxes to verify."""

__version__ = "0.1.0.dev0"
