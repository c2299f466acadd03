"""Figures as values: from the tables of results to `orchestrator.charts.Chart`, a function for each kind."""
