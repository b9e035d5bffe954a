"""Simulated genomes, variants and reads whose truth is known."""
