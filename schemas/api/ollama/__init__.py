"""Ollama's own API, as a dialect: its requests are put as those of chats, text completions and
embeddings, and their answers in its words. Source: ``docs/api.md`` and ``api/types.go`` of Ollama
at fb30760 (August 2026)."""
