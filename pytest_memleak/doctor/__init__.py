"""A check-up of this machine: each probe tried on an allocation made for it, and each extra looked up."""
