"""Errors a user can act on: each message says what is wrong, where, and what is accepted."""


class SpotwiseError(Exception):
    """Base of every error Spotwise raises on purpose; the command line exits with 1 on it."""


class InputError(SpotwiseError):
    """Something the user gave (file, option, configuration) cannot be used; exit code 2."""
