"""The static scanner: it reads source and never runs it.

sources ─► Module ─► rules ─► suspects ─┐
            └─────► facts ──────────────┴─► project ─► findings
one file at a time, in processes            what other files know: evictions, closes, endpoints
"""
