"""A whole Headrace under load while its processes are killed, frozen, cut off and restarted.

``scripts/chaos`` runs it. An answer is a function of its prompt, so each token of each answer is
checked, and a ledger tells what became of each request. Requests and disturbances are drawn from
one seed, so a failing seed can be run again.
"""
