"""Runs: choose what must run, execute it, record it, publish it."""
