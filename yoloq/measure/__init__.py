"""Measuring: matching, AP, intervals, latency, and the comparison of networks."""
