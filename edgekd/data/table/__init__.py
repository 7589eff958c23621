"""Tables as loggers write them: the layout is found on the beginning of a file, and the whole file confirms it.

`head` gives the lines, `text` finds how they are written, `times` and `numbers` what labels and cells mean, `columns`
which column is what; `plan` puts that together and `rows` reads by it. `axis` puts the rows in the order of time,
`sensors` and `samples` tell what became of them, and `read` does one after the other.
"""
