"""`python -m pipelines` is `hyena-dna`."""

from pipelines.cli import main

main()
