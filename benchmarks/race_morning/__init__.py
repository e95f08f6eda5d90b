"""A race morning played against a RunSignup and a PostgreSQL of its own, with a fast clock or on paper."""
