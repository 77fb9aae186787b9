"""The twelve parts of the report and its annex, in the order of a careful reader."""
