"""Prefect flows: thin, they call what the command line calls."""
