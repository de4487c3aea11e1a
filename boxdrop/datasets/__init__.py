"""Verified work as a data set: collected, split, frozen, and written in the formats of other tools."""
