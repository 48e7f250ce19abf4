"""What a call to a provider used, in the units that have prices."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spent:
    """What one call used. `prompt` includes the `cached` tokens, `completion` the tokens of
    reasoning. `stored`: quarters of a token, charged beside the prompt for writing to a cache.
    `told`: the provider reported these numbers; else they are our count of what arrived.

    `size` and `quality` of `images` are the answer's, or else the request's. `seconds`: of recorded
    speech. `characters`: of text that was spoken.
    """

    prompt: int = 0
    completion: int = 0
    cached: int = 0
    images: int = 0
    size: str = ""
    quality: str = ""
    seconds: float = 0.0
    characters: int = 0
    told: bool = True
    stored: int = 0

    @property
    def picture(self) -> str:
        """The kind of the pictures, as price lists name it."""
        return f"{self.quality}/{self.size}"


NOTHING = Spent()
