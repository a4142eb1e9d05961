"""A mesh of local processes: which ports, which commands, and one supervisor over them."""
