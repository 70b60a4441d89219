"""Turns records into findings: rules, persistence over time, and root causes."""
