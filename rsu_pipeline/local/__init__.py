"""What one machine needs by itself: an embedded PostgreSQL, and the supervision of child processes."""
