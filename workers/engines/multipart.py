"""Moved to `schemas.multipart`, as the ingress reads forms too."""

from schemas.multipart import MAX_PARTS, MAX_TEXT, FormError, Part, encode, parse

__all__ = ["MAX_PARTS", "MAX_TEXT", "FormError", "Part", "encode", "parse"]
