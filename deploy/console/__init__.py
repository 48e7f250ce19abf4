"""``headrace console``: pages for a browser. A process of its own, that asks the fabric as clients
do: an ingress by the key of who has signed in, and the broker by a login that only looks."""
