"""Exports a transformers model to a bundle: ``python -m model_export SOURCE --out BUNDLE``.

Only this package imports torch and transformers; `boxdrop.detect` runs its bundles.
"""
