"""The soak: a real server under a real load, for minutes or a day, and the verdict on what it kept."""
