"""The APIs of models (OpenAI's, Anthropic's messages, rerank): one module for each, for requests
and answers. `endpoints` is the table of all.

Only fields that the fabric acts on, or that engines are known to get wrong, have types; all other
fields pass untouched. Types and bounds come from OpenAI's and Anthropic's API references. Engines
treat a bad value differently (a 500, a silent default), so the edge refuses it for all of them.
"""
