"""Small, fast zero-shot classifiers out of BART classifiers: copy decoder layers, fine-tune, publish."""

__version__ = "1.0.0"
