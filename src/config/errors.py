"""Mistakes of the user's."""


class ConfigError(ValueError):
    """A mistake on the command line or in a config.

    Its text is one line: the key, the value, what is accepted, the nearest match, what to do.
    """
