"""Writers of results: reports and tables."""
