"""Any server with OpenAI's API, and what engines of that kind share."""
