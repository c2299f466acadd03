"""The verbs of `prunesweep`: each parses, calls and prints."""
