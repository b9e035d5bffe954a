"""Coordinates and files: intervals, references, reads, regions. No torch below this folder."""
