"""Pure functions from pictures, verdicts and masks to numbers."""
