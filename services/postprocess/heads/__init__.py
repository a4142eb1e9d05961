"""What the last layers of detection networks mean, one family a module."""
