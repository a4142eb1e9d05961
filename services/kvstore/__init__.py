"""The pool of attention state: which blocks are kept, lent and freed."""
