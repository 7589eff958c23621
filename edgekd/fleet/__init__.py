"""Many machines by one command: a student for each, what each is worth, and whose normal has moved.

`machines` says which machines there are, `work` makes what one machine gets, `pool` runs that on every core or on Ray,
`site` keeps what was made, `run` is the whole of `edgekd fleet distill`.
"""
