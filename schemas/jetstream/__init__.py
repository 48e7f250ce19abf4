"""JetStream, the broker's streams. Only this package uses JetStream's API.

- `words`: acks and statuses
- `streams`: creates and inspects streams and consumers
- `pulls`: takes messages from a durable consumer
- `reading`: reads a stream once through, or follows it
"""
