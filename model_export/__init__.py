"""From a model of transformers to a bundle: ``python -m model_export SOURCE --out BUNDLE``.

This package alone imports torch and transformers; `boxdrop.detect` runs what it makes.
"""
