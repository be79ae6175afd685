"""Collectors: small files with one method each; the registry is a plain tuple."""
