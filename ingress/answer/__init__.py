"""From frames to the client: documents and event streams, joined, checked and named."""
