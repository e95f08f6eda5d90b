"""Start lists: the rules that find their problems, and the tables that scoring reads."""
