"""Measures the product from outside, beside a peer or a raw limit."""
