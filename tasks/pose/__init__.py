"""Human pose: a stacked hourglass, heat maps, PCK."""
