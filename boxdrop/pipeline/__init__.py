"""The product's logic, one module a verb."""
