"""Operators: each fast version beside its slow definition."""
