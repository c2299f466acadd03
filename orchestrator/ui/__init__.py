"""The live page: sweeps of a store in a browser, read from the store alone, made of the report's own parts."""
