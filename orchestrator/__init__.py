"""The logistics: sweeps, stages, Ray Tune, tables."""
