"""What may go wrong in a way that the caller handles; every other exception is a bug."""


class InputError(ValueError):
    """The visitor can mend this; the message says how and is shown as it is."""


class OutOfMemory(InputError):
    """No memory even after every idle model was let go; the message says what to do."""


class Cancelled(Exception):
    """The job was stopped or ran past its deadline; raised by `on_step`, shown to nobody."""
