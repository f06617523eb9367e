"""Zero-shot classification: `from distilbart_mnli.zero_shot import ZeroShotClassifier`."""

from distilbart_mnli.zero_shot.classifier import ZeroShotClassifier

__all__ = ["ZeroShotClassifier"]
