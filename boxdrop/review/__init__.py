"""The review loop: what people changed, and what follows from it.

`outcomes` compares what the detector offered with what a person left; `reviewed` streams a project's verified
images with their outcomes; everything else in this package is computed from that stream.
"""
