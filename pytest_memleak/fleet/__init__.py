"""A fleet of replicas, judged by what a metrics store remembers of their memory."""
