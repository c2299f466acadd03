"""Tables as values, and their renderings for a terminal, a paper and a program."""
