"""The APIs of models (OpenAI's, Anthropic's messages, rerank): a module for each, both ways.

`endpoints` is the table of all. Only what the fabric acts on, or what engines are known to get
wrong, is typed; all other fields pass untouched. Types and bounds: OpenAI's and Anthropic's API
references. Engines differ in what they do with a bad value (a 500, a silent default), so the edge
refuses it once for all.
"""
