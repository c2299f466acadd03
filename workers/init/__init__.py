"""Trained networks to start from: where their weights are, what they hold, and whether they fit."""
