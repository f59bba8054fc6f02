"""The report for people: a pure translation of the JSON report into HTML and Markdown."""
