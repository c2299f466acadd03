"""Finished results as DataFrames: loading, conditions, means over seeds, statistics, comparisons."""
