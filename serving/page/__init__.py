"""The page of on-call: what serves, what went wrong, what was done, and how to undo it.

Rendered here and whole without a script; `static/page.js` only brings what changed since. Each
page is made of what a plain function of this folder gathers from the same functions that the JSON
routes use, so both tell the same.
"""
