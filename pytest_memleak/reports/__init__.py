"""Results as text: pure functions from a result to what a person or a machine reads."""
