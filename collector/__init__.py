"""The collector: HTTP in, stream out.

`examination` and `sessions` call the steps of a request, in their order. `http/` is around them.
"""
