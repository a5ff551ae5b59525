"""One reading each of what a process holds: blocks, objects, native heap, RSS, descriptors, threads, tasks."""
