"""The tables of the results page, rebuilt from public data and a model."""
