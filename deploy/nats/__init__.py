"""The embedded broker: a real nats-server on loopback, for one machine, the tests and the bench.

Use it as ``with broker.start(store) as nats: ...``. All that it keeps is in the store, a directory
of mode 0700:

================== ============================================================================
``broker.lock``    held (flock) by the owner and by the server: one broker for each store
``broker.json``    where the running broker answers, for other processes of this user (`find`)
``credentials``    one generated password for each role, made once (0600)
``nats-server.conf`` written anew at each start (0600), see `config`
``nats-server.log`` the server's log, rotated by size; ``nats-server.err``: its last words
``jetstream/``     streams and consumers
``ca.pem`` …       where other machines reach it: its certificates, see `certificates`
================== ============================================================================

Passwords travel in files of mode 0600 alone: never in arguments, in the environment or in logs.
The monitoring page knows no login, so there is none unless asked for, and then on loopback whatever
the clients' port does; it shows names of users and subjects, never passwords or messages. The
system account tells the same to whoever has its login.
"""
