"""Jobs in flight: who holds each, its frames, its deadlines, and when it may go to a provider."""
