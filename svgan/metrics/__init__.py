"""Metrics of generated clips, each under a stated protocol."""
