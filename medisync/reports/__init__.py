"""HTML that stands alone: one self-contained page per run, and the fragments that notebook and live page share."""
