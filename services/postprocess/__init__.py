"""From what a network gives to what a client wants (labels)."""
