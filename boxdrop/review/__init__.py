"""The review loop: reads what people verified, applies `boxdrop.assessment` to it, and shows what it says.

`reviewed` streams a project's verified images with their outcomes; everything else in this package is
computed from that stream.
"""
