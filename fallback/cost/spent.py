"""What a call of a provider used: what it is priced by."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spent:
    """What one call used. `prompt` includes those tokens that were `cached`; `completion` those of
    reasoning; `stored`: quarters of a token that are paid beside the prompt, for writing it to a
    cache. `told`: the provider said so; otherwise we counted, as far as the answer came.

    `images` of `size` and `quality` as the answer or else the request has them; `seconds` of
    recorded speech; `characters` spoken.
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
        """The kind of its pictures, as price lists name it."""
        return f"{self.quality}/{self.size}"


NOTHING = Spent()
