"""JetStream, the broker's streams. Nothing else speaks its API.

- `words`: acks and statuses
- `streams`: streams and consumers, made and looked into
- `pulls`: taking messages from a durable consumer
- `reading`: reading a stream once through, or following it
"""
