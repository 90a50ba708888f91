"""Small helpers for tests."""


def message_of(error: type[Exception], function, *arguments, **options) -> str:
    """The message of the error that a call raises; fails when it raises none."""
    try:
        function(*arguments, **options)
    except error as raised:
        return str(raised)
    raise AssertionError(f"{function.__name__} raised no {error.__name__}")
