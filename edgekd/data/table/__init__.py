"""Tables as loggers write them: the layout is found on the beginning of a file, and the whole file confirms it.

`text` finds how a file is written, `times` and `numbers` what its labels and cells mean, `columns` which column is
what; `rows` reads by that, `axis` puts samples in the order of time, and `read` does one after the other.
"""
