"""The HTTP edge: OpenAI's API in, jobs out, frames back as JSON or SSE."""
