"""The evidence about a model version in other people's formats, each in the unit that format asks for."""
