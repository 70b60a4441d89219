"""Turns what was measured into findings: rules, persistence and root causes."""
