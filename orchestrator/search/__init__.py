"""Searches: a method's settings tuned within a budget, decided by nothing but the results that the store has."""
