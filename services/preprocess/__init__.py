"""From what a client has (photos) to what a network takes."""
