"""Measures of detection on time series, the report made of them, and the pictures."""
