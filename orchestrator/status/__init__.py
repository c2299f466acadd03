"""What of a sweep is done, what runs where, and what nothing needs any more."""
