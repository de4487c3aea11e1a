"""Data sets from verified work: collect, split, freeze, and export in the formats of other tools."""
