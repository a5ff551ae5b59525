"""What lives inside each worker of a soaked server, without a change to the user's code."""
