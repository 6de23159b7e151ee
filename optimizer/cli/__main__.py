"""`python -m optimizer.cli` is the same as `spotwise`."""

from optimizer.cli import main

main()
