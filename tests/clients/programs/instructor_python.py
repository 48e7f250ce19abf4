"""Instructor, in each of its modes that asks an address of one's own."""

from __future__ import annotations

import instructor
from anthropic import Anthropic
from openai import OpenAI
from pydantic import BaseModel
from steps import KEY, MODEL, QUESTION, URL, step


class Weather(BaseModel):
    city: str
    degrees: int


def ask(client: instructor.Instructor) -> Weather:
    return client.create(
        model=MODEL,
        messages=[{"role": "user", "content": QUESTION}],
        response_model=Weather,
        max_tokens=200,
        max_retries=1,
    )


openai = OpenAI(base_url=URL + "/v1", api_key=KEY, max_retries=0)
anthropic = Anthropic(base_url=URL, api_key=KEY, max_retries=0)
for mode in ("TOOLS", "JSON", "JSON_SCHEMA", "MD_JSON"):
    step(
        f"from_openai, {mode}",
        "words",
        lambda m=mode: ask(instructor.from_openai(openai, mode=getattr(instructor.Mode, m))),
    )
for mode in ("TOOLS", "JSON"):
    step(
        f"from_anthropic, {mode}",
        "words",
        lambda m=mode: ask(instructor.from_anthropic(anthropic, mode=getattr(instructor.Mode, m))),
    )
