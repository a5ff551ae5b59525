"""Processes that run already, seen from outside: found, sampled, judged, and nothing in them touched."""
