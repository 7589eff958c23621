"""`edgekd report`: one page about a model on a recording, in one file that opens without a network.

`gather` scores and judges, `device` reads what a device told, `envelopes` makes arrays small, `page` writes the file;
`report.html`, `.css` and `.js` show it.
"""
