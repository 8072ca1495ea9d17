"""The HTTP door: results, history, runs and events for programs and browsers."""
