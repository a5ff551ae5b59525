"""What is called again and again: a test's function, an endpoint of an ASGI app, a callable."""
