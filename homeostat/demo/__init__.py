"""The demo: the whole loop on real handwriting, each act checked from outside."""
