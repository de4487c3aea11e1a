"""Teach a frozen detector from verified images: features, targets, fit, guard. See docs/teaching.md."""
