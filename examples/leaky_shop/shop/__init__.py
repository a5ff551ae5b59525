"""A small shop: catalogue, search, cart, orders, export, notifications."""
