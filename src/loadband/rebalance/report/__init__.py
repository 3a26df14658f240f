"""From recordings to what people and programs read: the terminal, result.json, junit.xml and report.html.

`result` judges a directory of recordings, once; everything else here only shows that `Result`. Nothing reads a clock or
draws a random number: the same recordings make the same bytes.
"""
