"""The catalogue of leak patterns, once, for diagnosis, scan and docs."""
