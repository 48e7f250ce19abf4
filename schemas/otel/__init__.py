"""Spans and metrics, told by OpenTelemetry's protocol (OTLP over HTTP): see ADR 20.

`options` (what is to be told, and where; pure), `opened` (the one way in), `spans` and `meters`
(what is told, in the protocol's words), of pieces that are `packed` by hand, all pure; `telemetry`
(what waits, and is sent). All but the first two are imported only where telemetry is on.
"""
