"""What grows, where it was allocated, who holds it, what to do about it."""
