"""Detections assessed against what people verified, and what follows from it. Pure functions of the domain.

`outcomes` says what a person did with each box; `evidence` has verified images as arrays, from which
thresholds, priorities and probable mistakes are computed. `boxdrop.review` reads what they are applied to.
"""
