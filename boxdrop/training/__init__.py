"""Training of a project's own detector on a frozen data set.

This package plans a training, prepares its folder, starts it and measures what comes of it; it imports
neither torch nor transformers. The training itself is `model_export.training`, in a Python with PyTorch.
"""
