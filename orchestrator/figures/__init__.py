"""Figures as values: from the tables of results to `orchestrator.figures.charts.Chart`, a function for each kind."""
