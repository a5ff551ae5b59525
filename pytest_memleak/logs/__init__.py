"""Figures out of log lines: bytes in, memory levels and deaths out. Pure, and in bounded memory."""
