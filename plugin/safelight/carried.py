"""Kept until its importers read it from ``dropin``."""

from .dropin.carried import carried_texts

__all__ = ["carried_texts"]
